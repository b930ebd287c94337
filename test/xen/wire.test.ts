import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Preamble, WedgeMessages, XenWire } from '../../src/targets/xen/wire.ts';

const HANDED_OVER = '(XEN) [    0.500000] *** Serial input to DOM0\r\n';

/** Xen's translation. */
const cooked = (text: string): string => text.replaceAll('\n', '\r\n');

interface Result {
  guest: string;
  messages: string[];
  status: number | undefined;
}

/** What comes out if the line delivers the text in these pieces. */
function receive(pieces: readonly string[]): Result {
  const wire = new XenWire();
  let guest = '';
  const messages: string[] = [];
  for (const piece of pieces) {
    const part = wire.receive(Buffer.from(piece, 'latin1'));
    guest += Buffer.from(part.guest).toString('latin1');
    messages.push(...part.messages);
  }
  guest += Buffer.from(wire.flush()).toString('latin1');
  return { guest, messages, status: wire.status };
}

test('what comes before the domain runs is not the guest', () => {
  const { guest, messages } = receive([
    ` Xen 4.17.5\r\n(XEN) [00000000372acd4f] one\r\n${HANDED_OVER}two\r\n`,
  ]);
  expect(guest).toBe('two\n');
  expect(messages).toEqual(['one', '*** Serial input to DOM0']);
});

test('messages are taken out of the middle of a line', () => {
  const { guest, messages } = receive([`${HANDED_OVER}he(XEN) [   12.345678] d0v0 (XEN) \r\nllo\r\n`]);
  expect(guest).toBe('hello\n');
  expect(messages.slice(1)).toEqual(['d0v0 (XEN) ']);
});

test('what only looks like a message is the guest', () => {
  const text = '(XEN) hello (XEN) [x] (XE\r\r\n(XEN) [    1.23456';
  expect(receive([HANDED_OVER, text]).guest).toBe('(XEN) hello (XEN) [x] (XE\r\n(XEN) [    1.23456');
});

test.each([
  ['the last line', 'a\nprevrit: status\nprevirt: status 3\n', 'a\nprevrit: status\n', 3],
  ['the end of a line', 'login: previrt: status 0\n', 'login: ', 0],
  ['followed by a message', 'x\nprevirt: status 4\n(XEN) [    2.000000] Hardware Dom0\n', 'x\n', 4],
  ['not at the end', 'previrt: status 3\n$ ', 'previrt: status 3\n$ ', undefined],
  ['not whole', 'previrt: status 3', 'previrt: status 3', undefined],
])('status: %s', (_, text, guest, status) => {
  expect(receive([HANDED_OVER, cooked(text)])).toMatchObject({ guest, status });
});

test('what the guest prints comes through, however the line cuts it and Xen interrupts it', () => {
  const special = fc.constantFrom('(', '(XEN) ', '[', '\r', '\n', 'previrt: ', 'status ', '3', 'x', '\xff');
  const guestText = fc.array(special, { maxLength: 12 }).map((parts) => parts.join(''));
  const message = fc.constantFrom('(XEN) [    1.000000] one\r\n', '(XEN) [0000000012345678] two\r\n');
  const piece = fc.tuple(guestText, message);
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 4 }), fc.array(fc.nat({ max: 7 })), (parts, cuts) => {
      // Nothing that the guest alone prints here looks like a message, and its last word is not a status.
      const expected = `${parts.map(([text]) => text).join('')}.`;
      const line = `${HANDED_OVER}${parts.map(([text, xen]) => cooked(text) + xen).join('')}.`;
      const pieces: string[] = [];
      let rest = line;
      for (const cut of cuts) {
        pieces.push(rest.slice(0, cut));
        rest = rest.slice(cut);
      }
      const { guest, messages } = receive([...pieces, rest]);
      expect(guest).toBe(expected);
      expect(messages.length).toBe(parts.length + 1);
    }),
  );
});

test('a preamble ends with its last line', () => {
  const preamble = new Preamble('previrt: console');
  const shown = ['one\nprevirt: con', 'sole\nguest', ' text'].map((text) =>
    Buffer.from(preamble.receive(Buffer.from(text))).toString(),
  );
  expect(shown).toEqual(['', 'guest', ' text']);
  expect(preamble.over).toBe(true);
});

test('a preamble that does not end', () => {
  const preamble = new Preamble('previrt: console');
  preamble.receive(Buffer.from('one\nxl create: no\n\n'));
  expect(preamble).toMatchObject({ over: false, lastLine: 'xl create: no' });
});

test('what the wedge says comes out in whole lines, however the bytes arrive', () => {
  const text = 'he\x02previrt: no\x03ll\x02tice\nunfini\x03o\x02shed\n\x03\n\x02never ended';
  fc.assert(
    fc.property(fc.array(fc.nat(text.length), { maxLength: 8 }), (cuts) => {
      const wedge = new WedgeMessages();
      const ends = [...cuts.sort((a, b) => a - b), text.length];
      let [guest, said] = ['', ''];
      ends.forEach((end, index) => {
        const part = wedge.receive(Buffer.from(text.slice(ends[index - 1] ?? 0, end), 'latin1'));
        guest += Buffer.from(part.guest).toString('latin1');
        said += part.said;
      });
      expect({ guest, said }).toEqual({ guest: 'hello\n', said: 'previrt: notice\nunfinished\n' });
    }),
  );
});
