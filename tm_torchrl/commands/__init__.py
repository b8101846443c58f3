"""The commands of ``tm-torchrl``; the files in ``scripts/`` call the same functions."""
