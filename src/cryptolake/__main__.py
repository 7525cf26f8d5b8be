"""`python -m cryptolake` is `cryptolake`."""

from cryptolake.cli import main

if __name__ == "__main__":
    main()
