/** Archives in cpio's "newc" format, which Linux unpacks as its first file system (Documentation/driver-api/early-userspace/buffer-format.rst). */

export type CpioEntry =
  | { readonly type: 'file'; readonly name: string; readonly mode: number; readonly bytes: Uint8Array }
  | { readonly type: 'folder'; readonly name: string; readonly mode: number }
  | { readonly type: 'link'; readonly name: string; readonly to: string }
  | {
      readonly type: 'device';
      readonly name: string;
      readonly mode: number;
      readonly number: readonly [number, number];
    };

/** File types in a mode (sys/stat.h); the device is one for characters. */
const TYPE_BITS = { file: 0o100000, folder: 0o040000, link: 0o120000, device: 0o020000 } as const;
const TRAILER = 'TRAILER!!!';
const ALIGNMENT = 4;

const padded = (bytes: Buffer): Buffer =>
  Buffer.concat([bytes, Buffer.alloc((ALIGNMENT - (bytes.length % ALIGNMENT)) % ALIGNMENT)]);

interface Fields {
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly device: readonly [number, number];
}

function record(name: string, fields: Fields, data: Uint8Array): Buffer {
  const nameBytes = Buffer.from(`${name}\0`);
  // inode, mode, uid, gid, links, mtime, size, device and special device in two halves each, name, checksum.
  const { inode, mode, links, device } = fields;
  const numbers = [inode, mode, 0, 0, links, 0, data.length, 0, 0, ...device, nameBytes.length, 0];
  const header = `070701${numbers.map((value) => value.toString(16).padStart(8, '0')).join('')}`;
  return Buffer.concat([padded(Buffer.concat([Buffer.from(header), nameBytes])), padded(Buffer.from(data))]);
}

/** The archive; a folder comes before what lies in it. Owned by root, dated 1970. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const records = entries.map((entry, index) => {
    const mode = TYPE_BITS[entry.type] | (entry.type === 'link' ? 0o777 : entry.mode);
    const data =
      entry.type === 'file' ? entry.bytes : entry.type === 'link' ? Buffer.from(entry.to) : Buffer.alloc(0);
    const device = entry.type === 'device' ? entry.number : ([0, 0] as const);
    return record(
      entry.name,
      { inode: index + 1, mode, links: entry.type === 'folder' ? 2 : 1, device },
      data,
    );
  });
  const end = record(TRAILER, { inode: 0, mode: 0, links: 1, device: [0, 0] }, Buffer.alloc(0));
  return Buffer.concat([...records, end]);
}
