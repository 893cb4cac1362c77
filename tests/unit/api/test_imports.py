"""What the API does not bring along."""

import subprocess
import sys


def test_the_api_starts_without_torch() -> None:
    code = "import services.api.__main__, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
