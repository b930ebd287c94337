/** Control characters, which names taken from input may have, as JavaScript writes them. */
export const printable = (text: string): string =>
  text.replace(/\p{Cc}/gu, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);

/**
 * Something the user handed in cannot be used. The message is one line that
 * says what and where; `advice` says what to do. It is no defect of previrt,
 * so the command line prints it without a stack trace.
 */
export class InputError extends Error {
  override readonly name: string = 'InputError';
  readonly advice: string | undefined;

  constructor(message: string, advice?: string) {
    super(printable(message));
    this.advice = advice;
  }
}
