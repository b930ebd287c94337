/** The terminal on standard input, while a guest has it. */

/** Puts it into raw mode. @returns what gives it back */
export function takeTerminal(): () => void {
  const { stdin } = process;
  // When a job stops, its shell takes the terminal's mode back; Node knows of none but its own.
  const again = (): void => void stdin.setRawMode(false).setRawMode(true);
  process.on('SIGCONT', again);
  stdin.setRawMode(true);
  return () => {
    process.off('SIGCONT', again);
    // One that is gone has hung up on us, too. Node would abort over it at its exit.
    stdin.once('error', () => process.kill(process.pid, 'SIGHUP'));
    stdin.setRawMode(false);
  };
}
