"""The phases of the training, in order; each goes on where it was stopped."""

import argparse

PHASES = ("data", "vae", "latents", "unet", "draft", "drafted", "decoder", "export", "curves", "goldens")
# Of a worker's CPU time.
MINUTES = {"vae": 12, "broad": 33, "everyday": 15, "icons": 7, "draft": 5, "drafted": 26, "decoder": 48}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, minutes in MINUTES.items():
        parser.add_argument(f"--{name}-minutes", type=float, default=minutes)
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

        unet.train(unet.STAGES[:3], (options.broad_minutes, options.everyday_minutes, options.icons_minutes))
    elif phase == "draft":
        from . import draft

        draft.train(options.draft_minutes)
        draft.settle()
    elif phase == "drafted":
        from . import unet

        unet.train([unet.DRAFTED], [options.drafted_minutes])
    elif phase == "decoder":
        from . import decoder

        decoder.train(options.decoder_minutes)
    elif phase == "export":
        from . import export

        export.export()
    elif phase == "curves":
        from . import curves

        curves.draw()
    else:
        from . import goldens

        goldens.write()


if __name__ == "__main__":
    main()
