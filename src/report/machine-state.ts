/** What `previrt state` says of a machine state. Pure, but for the RAM that it is given to read. */

import { architecturalFlags } from '../machine/core-registers.ts';
import { PAGING_MODES, pagingMode } from '../machine/paging.ts';
import { FEATURE_WORDS, FPU_FORMAT, type MachineState } from '../machine/state.ts';
import type { StateFile } from '../machine/state-reader.ts';
import { MEBIBYTE } from '../machine/virtual-pc.ts';
import { DOMAINS, type DomainName } from '../x86/site-kinds.ts';
import { type Count, countBy } from './count.ts';
import { formatTable, plural } from './table.ts';

/** As JSON has it: wide numbers and bytes as hexadecimal text. */
export type Json = number | string | readonly Json[] | { readonly [field: string]: Json };

export function toJson(value: unknown): Json {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, toJson(field)]));
  return value as number | string;
}

const DOMAIN_NAMES = Object.keys(DOMAINS) as DomainName[];
const domainName = (number: number): string =>
  DOMAIN_NAMES.find((name) => DOMAINS[name] === number) ?? `domain ${number}`;

export interface StateSummary {
  readonly formatVersion: number;
  readonly state: Json;
  readonly ram: {
    /** Bytes. */
    readonly size: number;
    readonly present: number;
    readonly zero: number;
    /** Of the file. */
    readonly stored: number;
  };
  readonly sites: {
    /** Domains whose sites are burned. */
    readonly burned: readonly string[];
    readonly kernel: number;
    readonly domains: readonly Count[];
    /** Sites of each module, by its number in the guest. */
    readonly modules: readonly Count[];
  };
}

export function stateSummary({ formatVersion, state, sites, blocks }: StateFile): StateSummary {
  const sum = (of: (block: (typeof blocks)[number]) => number): number =>
    blocks.reduce((total, block) => total + of(block), 0);
  const size = Number(state.ram_size);
  const present = sum((block) => block.size);
  return {
    formatVersion,
    state: toJson({ ...state, fpu: state.fpu.subarray(0, state.fpu_size) }),
    ram: { size, present, zero: size - present, stored: sum((block) => block.stored) },
    sites: {
      burned: DOMAIN_NAMES.filter((name) => state.domains & (1 << DOMAINS[name])),
      kernel: sites.filter(({ owner }) => owner === 0).length,
      domains: countBy(sites, ({ domain }) => domainName(domain)),
      modules: countBy(
        sites.filter(({ owner }) => owner !== 0),
        ({ owner }) => hex(owner),
      ),
    },
  };
}

const hex = (value: number | bigint, digits = 8): string => value.toString(16).padStart(digits, '0');
const byte = (value: number): string => hex(value, 2);
const onOff = (value: number): string => (value ? 'on' : 'off');

const mebibytes = (bytes: number): string => `${Number((bytes / MEBIBYTE).toFixed(1))} MiB`;
const seconds = (nanoseconds: bigint): string => `${(Number(nanoseconds) / 1e9).toFixed(3)} s`;

/** The latest time that a Date can tell, in milliseconds. */
const LATEST = 8.64e15;

function date(nanoseconds: bigint): string {
  const milliseconds = Number(nanoseconds / 1_000_000n);
  return milliseconds <= LATEST ? new Date(milliseconds).toISOString() : `${nanoseconds} ns`;
}

/** Flags of EFLAGS by bit (SDM vol. 1, 3.4.3). */
const FLAGS = [
  [0, 'CF'],
  [2, 'PF'],
  [4, 'AF'],
  [6, 'ZF'],
  [7, 'SF'],
  [8, 'TF'],
  [9, 'IF'],
  [10, 'DF'],
  [11, 'OF'],
  [14, 'NT'],
  [16, 'RF'],
  [17, 'VM'],
  [18, 'AC'],
  [21, 'ID'],
] as const;

const REGISTERS = ['eax', 'ecx', 'edx', 'ebx', 'esp', 'ebp', 'esi', 'edi'] as const;
const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'] as const;

const pairs = (names: readonly string[], values: readonly number[]): string =>
  names.map((name, index) => `${name} ${hex(values[index]!)}`).join('  ');

function cpuLines({ cpu }: MachineState): string {
  const flags = architecturalFlags(cpu);
  const mode = [
    cpu.cr0 & 1 ? 'protected mode' : 'real mode',
    PAGING_MODES[pagingMode(cpu)],
    `CPL ${cpu.cpl}`,
    ...(cpu.halted ? ['halted'] : []),
    ...(cpu.shadow ? ['in an interrupt shadow'] : []),
  ];
  const names = FLAGS.filter(([bit]) => flags & (1 << bit)).map(([, name]) => name);
  const segments = [
    ...SEGMENTS.map((name, index) => [name, cpu.segments[index]!] as const),
    ['ldtr', cpu.ldtr] as const,
    ['tr', cpu.tr] as const,
  ];
  const [dr0 = 0, dr1 = 0, dr2 = 0, dr3 = 0, , , dr6 = 0, dr7 = 0] = cpu.dr;
  return [
    `CPU: ${mode.join(', ')}`,
    pairs(REGISTERS.slice(0, 4), cpu.gpr.slice(0, 4)),
    pairs(REGISTERS.slice(4), cpu.gpr.slice(4)),
    `eip ${hex(cpu.eip)}  eflags ${hex(flags)} (${names.join(' ')})  IOPL ${(flags >> 12) & 3}`,
    pairs(['cr0', 'cr2', 'cr3', 'cr4'], [cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4]),
    pairs(['dr0', 'dr1', 'dr2', 'dr3', 'dr6', 'dr7'], [dr0, dr1, dr2, dr3, dr6, dr7]),
    pairs(['sysenter cs', 'esp', 'eip'], [cpu.sysenter_cs, cpu.sysenter_esp, cpu.sysenter_eip]),
    `pat ${hex(cpu.pat, 16)}  xcr0 ${hex(cpu.xcr0, 1)}  tsc_aux ${hex(cpu.tsc_aux, 1)}`,
    '',
    formatTable(
      [
        { title: 'segment', align: 'left' },
        { title: 'selector', align: 'right' },
        { title: 'base', align: 'right' },
        { title: 'limit', align: 'right' },
        { title: 'attributes', align: 'right' },
      ],
      [
        ...segments.map(([name, segment]) => [
          name,
          hex(segment.selector, 4),
          hex(segment.base),
          hex(segment.limit),
          hex(segment.attributes, 4),
        ]),
        ['gdtr', '', hex(cpu.gdtr.base), hex(cpu.gdtr.limit), ''],
        ['idtr', '', hex(cpu.idtr.base), hex(cpu.idtr.limit), ''],
      ],
    ),
  ].join('\n');
}

type Devices = MachineState['devices'];

const i8259Line = (device: Devices['i8259'][number] | undefined): string =>
  device
    ? `irr ${byte(device.irr)}  isr ${byte(device.isr)}  imr ${byte(device.imr)}  lines ${byte(device.lines)}  ` +
      `vectors from ${byte(device.icw2)}  INT ${onOff(device.intr)}`
    : '';

const channelLine = (channel: Devices['i8254']['channels'][number] | undefined): string =>
  channel
    ? `mode ${channel.mode}  count ${channel.count}  period ${channel.period}  gate ${onOff(channel.gate)}  ` +
      (channel.running ? `counts since ${seconds(channel.start)}` : 'stands still')
    : '';

const diskLine = (disk: Devices['virtio_blk']): string =>
  [
    `status ${byte(disk.status)}`,
    `queue of ${disk.queue_size} ${disk.queue_enable || disk.queue_pfn ? 'on' : 'off'}`,
    `at ${hex(disk.queue_pfn ? disk.queue_pfn * 4096 : disk.queue_desc)}`,
    `avail ${disk.last_avail}  used ${disk.used_index}`,
    ...(disk.broken ? ['broken'] : []),
  ].join('  ');

/** What a person wants to know of each device. */
const DEVICE_LINES: readonly (readonly [name: string, line: (devices: Devices) => string])[] = [
  ['i8259 master', ({ i8259 }) => i8259Line(i8259[0])],
  ['i8259 slave', ({ i8259 }) => i8259Line(i8259[1])],
  ['i8254 0', ({ i8254 }) => `${channelLine(i8254.channels[0])}; owes ${plural(i8254.backlog, 'tick')}`],
  ['i8254 1', ({ i8254 }) => channelLine(i8254.channels[1])],
  ['i8254 2', ({ i8254 }) => channelLine(i8254.channels[2])],
  [
    'mc146818',
    ({ mc146818: { ram, index } }) =>
      `A ${byte(ram[10]!)}  B ${byte(ram[11]!)}  C ${byte(ram[12]!)}  D ${byte(ram[13]!)}  index ${byte(index)}`,
  ],
  [
    'uart16550',
    ({ uart16550: uart }) =>
      `ier ${byte(uart.ier)}  lcr ${byte(uart.lcr)}  mcr ${byte(uart.mcr)}  lsr ${byte(uart.lsr)}  ` +
      `divisor ${uart.dlm * 256 + uart.dll}  ${plural(uart.length, 'byte')} received`,
  ],
  [
    'pci',
    ({ pci }) =>
      `config_address ${hex(pci.config_address)}  disk: ports ${hex(pci.bar)}  command ${hex(pci.command, 4)}`,
  ],
  ['virtio_blk', ({ virtio_blk }) => diskLine(virtio_blk)],
  ['system', ({ system }) => `port 61 ${byte(system.port_61)}  port 92 ${byte(system.port_92)}`],
];

const FPU_NAMES: Readonly<Record<number, string>> = {
  [FPU_FORMAT.FXSAVE]: 'FXSAVE',
  [FPU_FORMAT.XSAVE]: 'XSAVE',
};

/** @param name of the file, whose checksums are known to be right */
export function formatState(name: string, file: StateFile): string {
  const { state } = file;
  const { ram, sites, formatVersion } = stateSummary(file);
  const counts = (title: string, rows: readonly Count[]): string[] =>
    rows.length === 0
      ? []
      : [
          formatTable(
            [
              { title, align: 'left' },
              { title: 'sites', align: 'right' },
            ],
            rows.map((row) => [row.name, row.count]),
          ),
        ];
  const devices = DEVICE_LINES.map(([device, line]) => [device, line(state.devices)]);
  const features = FEATURE_WORDS.map(({ name: word }, index) => `${word} ${hex(state.features[index]!)}`);
  return [
    [
      `${name}: machine state, format ${formatVersion}, virtual PC ${state.pc_version}, checksums ok`,
      `RAM ${mebibytes(ram.size)}: ${mebibytes(ram.present)} present (${mebibytes(ram.stored)} in the file), ${mebibytes(ram.zero)} zero`,
      `time ${seconds(state.time)} since power-on; wall clock ${date(state.wall_time)}; tsc ${hex(state.tsc, 1)}`,
    ].join('\n'),
    cpuLines(state),
    [
      `FPU: ${FPU_NAMES[state.fpu_format]}, ${plural(state.fpu_size, 'byte')}`,
      `user code sees (CPUID): ${features.slice(0, 4).join('  ')}`,
      features.slice(4).join('  '),
    ].join('\n'),
    formatTable(
      [
        { title: 'device', align: 'left' },
        { title: 'state', align: 'left' },
      ],
      devices,
    ),
    `${plural(sites.kernel, 'site')} of the kernel, ${plural(file.sites.length - sites.kernel, 'site')} of ` +
      `${plural(sites.modules.length, 'module')}` +
      (sites.burned.length > 0 ? ` (burned: ${sites.burned.join(', ')})` : ' (none is burned)'),
    ...counts('domain', sites.domains),
    ...counts('module', sites.modules),
  ]
    .join('\n\n')
    .concat('\n');
}
