/** Signals that end a command: by Ctrl-C or Ctrl-\, by whoever wants it, and when its terminal is gone. */
export const ENDING_SIGNALS = ['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'] as const;
