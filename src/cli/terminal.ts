/** The terminal on standard input, while a guest has it. */

/** Puts it into raw mode. @returns what gives it back */
export function takeTerminal(): () => void {
  const { stdin } = process;
  let gone = false;
  stdin.on('error', () => {
    gone = true;
  });
  const setRaw = (raw: boolean): void => {
    if (!stdin.destroyed) stdin.setRawMode(raw);
  };
  // When a job stops, its shell takes the terminal's mode back; Node knows of none but its own.
  const again = (): void => {
    setRaw(false);
    setRaw(true);
  };
  process.on('SIGCONT', again);
  setRaw(true);
  return () => {
    process.off('SIGCONT', again);
    setRaw(false);
    // One that is gone has hung up on us, too. Node would abort over it at its exit.
    if (gone || stdin.destroyed) process.kill(process.pid, 'SIGHUP');
  };
}
