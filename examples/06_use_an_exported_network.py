"""Segment a picture: python use.py PICTURE. Needs numpy, Pillow and onnxruntime alone."""

import json
import sys

import numpy as np
import onnxruntime
import PIL.Image
import PIL.ImageOps


def main(picture, model="model.onnx", out="mask.png"):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    opened = PIL.ImageOps.exif_transpose(PIL.Image.open(picture))  # upright
    if opened.mode[0] in "IF":
        sys.exit(f"{picture} has more than 8 bits a value; save it with 8.")
    if opened.has_transparency_data:
        white = PIL.Image.new("RGBA", opened.size, "white")
        opened = PIL.Image.alpha_composite(white, opened.convert("RGBA"))
    image = np.asarray(opened.convert("RGB"), np.float32) / 255
    image = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    (logits,) = session.run(["logits"], {"image": image})
    label_map = logits[0].argmax(0).astype(np.uint8)
    for index, name in enumerate(json.loads(about["classes"])):
        print(f"{name:<16} {100 * (label_map == index).mean():5.1f} %")
    mask = PIL.Image.fromarray(label_map)
    mask.putpalette([level for color in json.loads(about["colors"]) for level in color])
    mask.save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
