import type { CodeWidth } from '../../src/assembly/annotator.ts';
import { type OperandForm, SENSITIVE_MNEMONICS } from '../../src/x86/sensitive.ts';

const MEMORY = {
  32: [
    ...[
      'table',
      '(%eax)',
      '(%ecx)',
      '8(%esp)',
      '(%esp)',
      '(%ebp)',
      '-4(%ebp)',
      '300(%ebp,%eax,4)',
      '(%eax,%ebp,2)',
    ],
    ...[
      'table(%esp)',
      '%fs:table',
      '%gs:(%eax)',
      '%cs:4(%ebp)',
      '0(%eax)',
      '-129(%edi)',
      '0x7f(%esi)',
      '(,%eax,4)',
    ],
  ],
  64: [
    ...[
      'table',
      '(%rax)',
      '8(%rsp)',
      '(%rsp)',
      '(%rbp)',
      '-4(%rbp)',
      '(%r12)',
      '(%r13)',
      'table(%rip)',
      '%fs:table',
    ],
    ...['%gs:(%rax)', '(%rax,%rbp,2)', '300(%r13,%r12,4)', '(,%rax,8)', '0x80(%rdx)'],
  ],
} as const;

const REGISTERS = { 32: ['%eax', '%ax', '%ebp'], 64: ['%rax', '%eax', '%ax', '%r9', '%r9d'] } as const;
const SPECIAL = [
  '%cs',
  '%ds',
  '%es',
  '%fs',
  '%gs',
  '%ss',
  '%cr0',
  '%cr2',
  '%cr3',
  '%cr4',
  '%cr8',
  '%db0',
  '%dr7',
];

function operandsOf(form: OperandForm, width: CodeWidth): string[] {
  const anything = [...MEMORY[width], ...REGISTERS[width]];
  switch (form) {
    case 'fixed':
    case 'monitor':
      return ['', '$8'];
    case 'int':
      return ['$0x80', '$0', '$vector'];
    case 'modrm':
      return anything.flatMap((operand) => [operand, ...REGISTERS[width].map((reg) => `${operand}, ${reg}`)]);
    case 'far':
      return ['$8, $table', ...MEMORY[width].map((operand) => `*${operand}`)];
    case 'port':
      return [
        '%dx, %al',
        '%dx, %ax',
        '%dx, %eax',
        '%al, %dx',
        '%ax, %dx',
        '%eax, $0x70',
        '$0x70, %al',
        '$5, %ax',
      ];
    case 'ins':
    case 'outs':
      return ['', '(%dx), %es:(%edi)', '%ds:(%esi), (%dx)', '%fs:(%esi), (%dx)', '(%rsi), %dx'];
    case 'mov':
      return SPECIAL.flatMap((special) =>
        anything.flatMap((operand) => [`${special}, ${operand}`, `${operand}, ${special}`]),
      );
    case 'push':
    case 'pop':
      return SPECIAL;
  }
}

/** Every spelling of the table with every kind of operands; not all are accepted by the assembler. */
export function sensitiveStatements(width: CodeWidth): string[] {
  return [...SENSITIVE_MNEMONICS].flatMap(([mnemonic, { form }]) =>
    operandsOf(form, width).map((operands) => `${mnemonic}\t${operands}`.trim()),
  );
}
