"""``python -m tm_torchrl COMMAND``, the same as ``tm-torchrl COMMAND``."""

from tm_torchrl.commands.main import main

if __name__ == "__main__":
    main()
