"""`python -m tests.hostile.fuzz`: inputs that reach ever new code of the decoder, until something gives way.

Needs Atheris (`pip install atheris`), which follows the coverage. What it finds is printed and written to a
file; put that into `corpus/`, where the tests find it.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

CORPUS = Path(__file__).parent / "corpus"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, help="what to follow from; a new one each time, and printed")
    parser.add_argument("--findings", type=Path, default=Path(), help="where to write what fails (.)")
    parser.add_argument("--grown", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if find_spec("atheris") is None:
        parser.exit(2, "fuzz: Atheris is not installed: python -m pip install atheris\n")
    if given.grown is not None:
        _fuzz(given.seed, given.seconds, given.findings.resolve(), given.grown)
    seed = random.SystemRandom().randrange(1, 2**31) if given.seed is None else given.seed
    sys.stdout.write(f"fuzz: seed {seed}, {given.seconds} s\n")
    sys.stdout.flush()
    # The fuzzer ends its process, so it gets one of its own.
    with tempfile.TemporaryDirectory(prefix="fuzz-") as grown:
        inner = [sys.executable, "-m", "tests.hostile.fuzz", "--seed", str(seed), "--grown", grown]
        inner += ["--seconds", str(given.seconds), "--findings", str(given.findings)]
        code = subprocess.run(inner, check=False).returncode
    sys.stdout.write("passed\n" if code == 0 else f"FAILED: again with --seed {seed}\n")
    return 1 if code else 0


def _fuzz(seed: int, seconds: int, findings: Path, grown: str) -> NoReturn:
    import atheris  # noqa: PLC0415 - only where it is installed

    with atheris.instrument_imports(include=["schemas"]):
        from tests.hostile.properties import check, raw_of, record_of  # noqa: PLC0415 - instrumented here
    from tests.hostile.upstream import Upstream  # noqa: PLC0415 - what it is made of must not count

    upstream = Upstream(seed)

    def test(raw: bytes) -> None:
        check(record_of(raw))

    def mutate(raw: bytes, most: int, chance: int) -> bytes:
        # Bytes alone would seldom get past the JSON parser: half of the inputs know the grammar.
        if chance % 2:
            return bytes(atheris.Mutate(raw, most))
        sent = upstream.next()
        return raw_of(sent.value, sent.headers)[:most]

    options = [
        f"-seed={seed}",
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-max_len=65536",
        "-print_final_stats=1",
        f"-artifact_prefix={findings}/",
    ]
    atheris.Setup([sys.argv[0], *options, grown, str(CORPUS)], test, custom_mutator=mutate)
    atheris.Fuzz()
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
