"""`python -m neuralake`: the same as the `neuralake` command."""

from neuralake.cli import main

if __name__ == "__main__":
    main()
