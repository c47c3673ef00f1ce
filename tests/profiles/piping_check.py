"""Runs the public checker of the Piping Server's protocol against beam: ``make piping-check``.

``piping-server-check`` is a Go program of its own, https://github.com/nwtgck/piping-server-check, and has to be on the
path.  Every check has to pass, over HTTP/1.1, over TLS, and over HTTP/1.0 but for ``multipart_form_data``: there the
checker reads what has come together with the head only, and its body has 8 MiB.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Server, free_port

CHECKER = "piping-server-check"
BOUND = 300  # seconds for one run of the checker
PLACES = {"the server": ("", ("--profile", "piping")), "a mount": ("/p", ("--mount", "/p=piping"))}
PROTOCOLS = {
    "http1.1": ("--transfer-span", "2s"),
    "http1.1-tls": ("--tls-skip-verify", "--transfer-span", "2s"),
    "http1.0": ("--compromise", "multipart_form_data"),
}


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for this machine."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command = ["openssl", "req", *options, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


def check(times: int) -> int:
    """Run everything ``times`` times; how many runs failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder, tls_port = Path(name), free_port()
        key, cert = certificate(folder)
        tls = f"ssl:{tls_port}:interface=127.0.0.1:privateKey={key}:certKey={cert}"
        for place, (prefix, flags) in PLACES.items():
            with Server("--listen", tls, *flags, log=folder / "log") as server:
                for protocol, options in [*PROTOCOLS.items()] * times:
                    port = tls_port if protocol.endswith("tls") else server.port
                    url = ("--server-schemaless-url", f"//127.0.0.1:{port}{prefix}")
                    command = [CHECKER, f"--{protocol}", *url, *options]
                    run = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
                    passed = run.stdout.count('"ok":true')
                    print(f"{place}, {protocol}: {passed} checks passed, exit status {run.returncode}", flush=True)
                    if run.returncode:
                        failed += 1
                        print(run.stdout + run.stderr)
    return failed


def main() -> int:
    """Check as often as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1, help="how often [1]")
    times = parser.parse_args().times
    if shutil.which(CHECKER) is None:
        print(f"{CHECKER} is not on the path; it is at https://github.com/nwtgck/{CHECKER}")
        return 1
    return 1 if check(times) else 0


if __name__ == "__main__":
    sys.exit(main())
