"""Networks: the UNet and the Diffusion Policy around it. Needs torch; no simulator, no files."""
