"""The arithmetic of the network. No config, file or clock."""
