"""The link plugin for the game, and its installation into TMInterface's folder of plugins."""

from tm_torchrl.game.plugin.install import PLUGIN, install_plugin, plugin_folders

__all__ = ["PLUGIN", "install_plugin", "plugin_folders"]
