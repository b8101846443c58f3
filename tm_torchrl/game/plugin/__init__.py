"""The plugin inside the game, as a file, and the way to put it where TMInterface looks."""

from tm_torchrl.game.plugin.install import PLUGIN, install_plugin, plugin_folders

__all__ = ["PLUGIN", "install_plugin", "plugin_folders"]
