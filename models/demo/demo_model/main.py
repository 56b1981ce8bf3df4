"""The phases of the training, in order; each goes on where it was stopped."""

import argparse

PHASES = ("data", "vae", "latents", "unet", "export", "goldens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae-minutes", type=float, default=12)
    parser.add_argument("--unet-minutes", type=float, default=33)
    parser.add_argument("--everyday-minutes", type=float, default=15)
    parser.add_argument("--icons-minutes", type=float, default=7)
    parser.add_argument("phases", nargs="*", metavar="PHASE", help=" ".join(PHASES))
    options = parser.parse_args()
    if unknown := set(options.phases) - set(PHASES):
        parser.error(f"unknown phases: {' '.join(sorted(unknown))}")
    for phase in options.phases or PHASES:
        print(f"== {phase}", flush=True)
        run(phase, options)


def run(phase: str, options: argparse.Namespace) -> None:
    """One phase; torch is imported only where it is needed."""
    if phase == "data":
        from . import data

        data.prepare()
    elif phase == "vae":
        from . import vae

        vae.train(options.vae_minutes)
    elif phase == "latents":
        from . import latents

        latents.encode()
    elif phase == "unet":
        from . import unet

        unet.train(options.unet_minutes, options.everyday_minutes, options.icons_minutes)
    elif phase == "export":
        from . import export

        export.export()
    else:
        from . import goldens

        goldens.write()


if __name__ == "__main__":
    main()
