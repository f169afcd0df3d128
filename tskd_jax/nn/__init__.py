"""Networks: multilayer perceptron, temporal U-Net, transformer."""
