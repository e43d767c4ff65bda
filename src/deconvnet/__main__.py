"""`python -m deconvnet` is the command `deconvnet`."""

from deconvnet.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
