"""What the wheel holds: the rooms of the package, and the Hydra tree beside them as ``tm_torchrl.configs``."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["tm_torchrl", "tm_torchrl.*"]), "tm_torchrl.configs"],
    package_dir={"tm_torchrl.configs": "configs"},
    package_data={
        "tm_torchrl": ["py.typed", "game/plugin/*.as", "live/page/*", "tracks/data/**/*"],
        "tm_torchrl.configs": ["**/*.yaml"],
    },
)
