/**
 * The control socket of a run: who can reach it may ask something of the guest's
 * wedge. A request is a line of JSON, `{"reburn": ["cpu", ...]}`; the answer is
 * one too, with what was done or an `error`.
 */

import { rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { InputError } from '../elf/input-error.ts';
import { reburnAnswer } from '../targets/command.ts';
import type { Commands } from '../targets/target.ts';
import { DOMAINS, type DomainName } from '../x86/site-kinds.ts';

/** Characters of the longest request. */
const LONGEST = 4096;

interface Request {
  readonly domains: readonly DomainName[];
  readonly socket: Socket;
}

export interface Control {
  readonly commands: Commands;
  close(): void;
}

/** The domains that a request names, or why it is none. */
function parseRequest(line: string): readonly DomainName[] | string {
  try {
    const { reburn } = JSON.parse(line) as { reburn?: unknown };
    const known = (name: unknown): name is DomainName =>
      typeof name === 'string' && Object.hasOwn(DOMAINS, name);
    if (Array.isArray(reburn) && reburn.every(known)) return reburn;
  } catch {
    // Told below.
  }
  return `a request is {"reburn": [domains]}; domains: ${Object.keys(DOMAINS).join(', ')}`;
}

/** Listens on a path. @throws InputError if it cannot */
export async function openControl(path: string): Promise<Control> {
  const waiting: Request[] = [];
  let reburn: ((domains: readonly DomainName[]) => void) | undefined;
  const answer = (socket: Socket, what: object): void => void socket.write(`${JSON.stringify(what)}\n`);
  const ask = (): void => {
    if (waiting[0]) reburn?.(waiting[0].domains);
  };
  const receive = (socket: Socket): void => {
    let text = '';
    socket.setEncoding('utf8').on('error', () => socket.destroy());
    socket.on('data', (chunk: string) => {
      text += chunk;
      const lines = text.split('\n');
      text = lines.pop()!;
      if (text.length > LONGEST) socket.destroy();
      for (const line of lines) {
        const domains = parseRequest(line);
        if (typeof domains === 'string') answer(socket, { error: domains });
        else if (waiting.push({ domains, socket }) === 1) ask();
      }
    });
  };
  const server = createServer(receive);
  await new Promise<void>((listening, failed) => {
    server.on('error', ({ message }) =>
      failed(new InputError(`${path}: ${message}`, 'take another path for --control')),
    );
    server.listen(path, listening);
  });
  return {
    commands: {
      attach(how) {
        reburn = how;
        ask();
      },
      heard(line) {
        const done = reburnAnswer(line);
        const request = done === undefined ? undefined : waiting.shift();
        if (!request) return;
        answer(request.socket, typeof done === 'string' ? { error: done } : done!);
        ask();
      },
    },
    close() {
      for (const { socket } of waiting) answer(socket, { error: 'the guest has ended' });
      server.close();
      rmSync(path, { force: true });
    },
  };
}
