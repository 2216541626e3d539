"""The control plane: what policy says, as Envoy's configuration, over ADS."""
