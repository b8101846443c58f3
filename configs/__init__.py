"""The Hydra tree; installed as ``tm_torchrl.configs``, so ``pkg://tm_torchrl.configs`` finds it everywhere."""
