"""Parts of scripts/bench.d/uploads: makes the pictures, times Pillow, writes the tables."""

import io
import json
import struct
import sys
import time
import zlib
from pathlib import Path

SIDE = 1024


def photograph(seed):
    """Smooth light, texture and sensor noise: packs about as badly as photographs do."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    picture = np.zeros((SIDE, SIDE, 3))
    for channel in range(3):
        a, b, c = random.uniform(0.5, 3, 3)
        picture[..., channel] = np.sin(a * x * 6 + b) * np.cos(c * y * 5) + (x + y) / 2
        for size, weight in ((8, 0.5), (32, 0.25), (128, 0.12), (512, 0.05)):
            grain = random.normal(0, 1, (size, size)).astype("float32")
            image = Image.fromarray(grain).resize((SIDE, SIDE), Image.BICUBIC)
            picture[..., channel] += weight * np.asarray(image)
    picture = (picture - picture.min()) / (picture.max() - picture.min()) * 235 + 10
    picture += random.normal(0, 2.5, picture.shape)
    return Image.fromarray(picture.clip(0, 255).astype("uint8"))


def drawing(seed):
    """Flat shapes with smoothed edges."""
    import numpy as np
    from PIL import Image, ImageDraw

    random = np.random.default_rng(seed)
    picture = Image.new("RGB", (SIDE * 2, SIDE * 2), (250, 248, 240))
    draw = ImageDraw.Draw(picture)
    for _ in range(60):
        colour = tuple(int(v) for v in random.integers(0, 256, 3))
        left, top = (int(v) for v in random.integers(0, SIDE * 2, 2))
        wide, high = (int(v) for v in random.integers(40, 500, 2))
        shape = random.choice([draw.ellipse, draw.rectangle])
        shape((left, top, left + wide, top + high), fill=colour, outline=(20, 20, 20), width=6)
    return picture.resize((SIDE, SIDE), Image.LANCZOS)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, packed, before=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def pictures(work):
    from PIL import Image

    for name in ("good", "bad", "peak"):
        (work / name).mkdir()
    for kind, make in (("photograph", photograph), ("drawing", drawing)):
        image = make(7)
        image.save(work / "good" / f"{kind}.jpg", quality=90)
        image.save(work / "good" / f"{kind}.png")
        image.save(work / "good" / f"{kind}.webp", quality=85)
    one = (work / "good" / "drawing.png").read_bytes()
    small = zlib.compress(b"\0" * 31 * 10)
    packer = zlib.compressobj(9)
    gigabyte = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    hostile = {
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "pdf": b"%PDF-1.7\n" + one,
        "zip": b"PK\x03\x04" + one,
        "60000x60000.png": png(60000, 60000, small),
        "31000x1000.png": png(31000, 1000, small),
        "cut.png": one[: len(one) // 3],
        "header.jpg": b"\xff\xd8\xff\xe0\0\x04ab\xff\xd9",
        "too-large": bytes(10 * 1024 * 1024 + 1),
        "empty-pixels.png": png(4000, 4000, small),
        "text-of-a-gigabyte.png": png(10, 10, b"", chunk(b"zTXt", b"Comment\0\0" + gigabyte)),
        "profile-of-a-gigabyte.png": png(10, 10, b"", chunk(b"iCCP", b"Profile\0\0" + gigabyte)),
    }
    for name, data in hostile.items():
        (work / "bad" / name).write_bytes(data)
    for side in (1024, 4096, 8192):
        for mode, colour in (("RGB", (200, 90, 30)), ("RGBA", (200, 90, 30, 128))):
            Image.new(mode, (side, side), colour).save(work / "peak" / f"{mode}-{side}.png")
    flat = Image.new("RGB", (8192, 8192), (200, 90, 30))
    flat.save(work / "peak" / "RGB-8192.jpg", quality=50)
    flat.save(work / "peak" / "progressive-8192.jpg", quality=50, progressive=True)
    flat.save(work / "peak" / "progressive-444-8192.jpg", quality=50, progressive=True, subsampling=0)
    flat.convert("CMYK").save(work / "peak" / "progressive-cmyk-8192.jpg", quality=50, progressive=True)
    flat.save(work / "peak" / "lossy-8192.webp", quality=50, method=0)
    flat.save(work / "peak" / "lossless-8192.webp", lossless=True, quality=0, method=0)
    flat.save(work / "peak" / "8192.gif")
    flat.convert("LA").save(work / "peak" / "LA-8192.png")


def pillow(files):
    from PIL import Image

    for file in files:
        data = Path(file).read_bytes()
        spans, begun, used = [], time.perf_counter(), time.process_time()
        while len(spans) < 3 or time.perf_counter() - begun < 0.6:
            one = time.perf_counter()
            image = Image.open(io.BytesIO(data))
            image.thumbnail((4096, 4096))
            out = io.BytesIO()
            image.save(out, "PNG", optimize=True)
            spans.append((time.perf_counter() - one) * 1000)
        used = (time.process_time() - used) * 1000 / len(spans)
        spans.sort()
        print(json.dumps({"file": file, "ms": spans[len(spans) // 2], "cpu_ms": used, "bytes": len(out.getvalue())}))


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def tables(work):
    ours, walled, pil, sharp = (rows(work / name) for name in ("ours", "walled", "pillow", "sharp"))
    print("### Uploads\n")
    print(f"Generated pictures of {SIDE}×{SIDE}, one at a time on one core: processor time of one. The guide's snippet is Pillow's")
    print("thumbnail and PNG with optimize; sharp does the sanitiser's steps at compressionLevel 9 with adaptiveFiltering.\n")
    print("| picture | sanitised | in its own process | Pillow | sharp | size | Pillow | sharp |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    sums = [0.0] * 7
    for a, b, c, d in zip(ours, walled, pil, sharp, strict=True):
        values = [*(row["cpu_ms"] for row in (a, b, c, d)), a["bytes"] / 1e3, c["bytes"] / 1e3, d["bytes"] / 1e3]
        sums = [total + value for total, value in zip(sums, values, strict=True)]
        name = Path(a["file"]).name
        times, sizes = values[:4], values[4:]
        print(f"| {name} | " + " | ".join(f"{v:.1f} ms" for v in times) + " | " + " | ".join(f"{v:.0f} KB" for v in sizes) + " |")
    print("\n| | times as fast | size of ours beside its |\n|---|---:|---:|")
    print(f"| Pillow | {sums[2] / sums[0]:.2f} (walled {sums[2] / sums[1]:.2f}) | {sums[4] / sums[5]:.3f} |")
    print(f"| sharp | {sums[3] / sums[0]:.2f} (walled {sums[3] / sums[1]:.2f}) | {sums[4] / sums[6]:.3f} |")
    print("\nPeak memory of one upload, against what its header is given:\n")
    print("| picture | peak | bound |\n|---|---:|---:|")
    for row in rows(work / "peak.json"):
        print(f"| {Path(row['file']).name} | {row['peak_mb']:.0f} MB | {row['bound_mb']:.0f} MB |")
    print("\nRefusing a hostile file:\n")
    print("| file | answer | time |\n|---|---|---:|")
    refused = rows(work / "refused")
    for row in refused:
        print(f"| {Path(row['file']).name} | {row['refused'] or 'accepted'} | {row['ms']:.3f} ms |")
    spans = sorted(row["ms"] for row in refused)
    print(f"\nMedian {spans[len(spans) // 2]:.3f} ms.\n")
    print("### Content Credentials\n")
    print("| format | file | marked | time |\n|---|---:|---:|---:|")
    for row in rows(work / "mark"):
        print(f"| {row['format']} | {row['bytes']} bytes | + {row['more']} bytes | {row['ms']:.2f} ms |")
    print("\n### Sweep\n")
    row = rows(work / "sweep")[0]
    print(f"{row['objects']} objects with their rows in {row['seconds']:.1f} s: {row['per_second']:.0f} a second, "
          f"{row['peak_mb']:.0f} MB at most.")


if __name__ == "__main__":
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "pictures":
        pictures(Path(arguments[0]))
    elif command == "pillow":
        pillow(arguments)
    else:
        tables(Path(arguments[0]))
