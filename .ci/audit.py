"""./dev audit: known vulnerabilities of what is installed, by pip-audit. Exit code 0: none, 1: some, 3: nobody to ask.

pip-audit itself ends with 1 for a finding as well as for a network that is not there, and with 0 ("no known
vulnerabilities") when a package index that has no advisories answered nothing about any package. Neither may pass for
an audit.
"""

import json
import subprocess
import sys
from pathlib import Path

FOUND, NOBODY_TO_ASK = 1, 3


def main() -> int:
    command = [str(Path(sys.executable).with_name("pip-audit")), "--local", "--skip-editable", "--format", "json"]
    done = subprocess.run([*command, "--progress-spinner", "off", *sys.argv[1:]], capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["no report"]
        print(f"audit: NOTHING WAS AUDITED: {lines[-1][:300]}", file=sys.stderr)
        return NOBODY_TO_ASK
    audited = [package for package in packages if "skip_reason" not in package]
    skipped = len(packages) - len(audited)
    if not audited:
        print(f"audit: NOTHING WAS AUDITED: no advisories for any of {skipped} packages", file=sys.stderr)
        return NOBODY_TO_ASK
    found = [(package, each) for package in audited for each in package["vulns"]]
    for package, each in found:
        fixed = ", ".join(each["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {each['id']}, fixed in {fixed}")
    print(f"audit: {len(audited)} packages audited, {skipped} skipped, {len(found)} vulnerabilities", file=sys.stderr)
    return FOUND if found else 0


if __name__ == "__main__":
    sys.exit(main())
