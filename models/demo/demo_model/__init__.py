"""How Signet's demo model is made: data, autoencoder, text encoder and UNet, export, goldens, figures."""
