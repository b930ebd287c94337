/** The kernel's configuration files (Documentation/kbuild/kconfig.rst). */

/** Options by name; one that is not set is "n". */
function readConfig(text: string): Map<string, string> {
  const options = new Map<string, string>();
  for (const line of text.split('\n')) {
    const set = /^(CONFIG_\w+)=(.*)$/.exec(line);
    const unset = /^# (CONFIG_\w+) is not set$/.exec(line);
    if (set) options.set(set[1]!, set[2]!);
    else if (unset) options.set(unset[1]!, 'n');
  }
  return options;
}

/** What a fragment asks for and the finished configuration does not have: kconfig drops such options silently. */
export function missingOptions(fragment: string, config: string): string[] {
  const have = readConfig(config);
  return [...readConfig(fragment)]
    .filter(([name, value]) => (have.get(name) ?? 'n') !== value)
    .map(([name, value]) => `${name}=${value}`);
}
