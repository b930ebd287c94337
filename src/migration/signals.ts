/** Signals that end a command: by Ctrl-C, by whoever wants it, and when its terminal is gone. */
export const ENDING_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
