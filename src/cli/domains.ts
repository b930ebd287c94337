/** The option that names annotation domains. */

import { InvalidArgumentError, Option } from 'commander';
import { USUAL_DOMAINS } from '../substitution/select.ts';
import { DOMAINS, type DomainName } from '../x86/site-kinds.ts';

const ALL_DOMAINS = Object.keys(DOMAINS) as DomainName[];

function parseDomains(text: string): DomainName[] {
  const names = text.split(',').map((name) => name.trim());
  const unknown = names.find((name) => !Object.hasOwn(DOMAINS, name));
  if (unknown !== undefined)
    throw new InvalidArgumentError(`There is no domain '${unknown}'; domains: ${ALL_DOMAINS.join(', ')}.`);
  if (!names.includes('cpu')) throw new InvalidArgumentError('Domain cpu cannot be left out.');
  return ALL_DOMAINS.filter((name) => names.includes(name));
}

export const domainsOption = (): Option =>
  new Option('--domains <list>', 'domains to substitute; the others trap')
    .argParser(parseDomains)
    .default(USUAL_DOMAINS, USUAL_DOMAINS.join(','));
