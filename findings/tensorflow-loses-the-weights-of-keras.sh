#!/usr/bin/env bash
# TensorFlow's own ways to convert a Keras 3 model leave its weights out.
#
# Guess:    `TFLiteConverter.from_concrete_functions([f], network)`, or a SavedModel of a `tf.Module` that holds the network, which were
#           the ways to a signature of one's own with Keras 2, convert what `f` computes, or raise.
# Truth:    Keras 3's layers are not tracked as TensorFlow's objects were: the file has none of the weights, and nothing is said. It
#           loads, and answers with other numbers. Only `keras.export.ExportArchive` writes a SavedModel that has them.
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1.
# Fleet:    what is published has the right interface and the size of a small network. Only a comparison with the network's own
#           outputs on real samples shows it.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here tensorflow-cpu==2.21.0 keras==3.15.1 numpy==2.4.6
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=-1
python_finding here 2>"$folder/errors" <<'END'
import numpy as np
import tensorflow as tf
from finding import expect

tf.keras.utils.set_random_seed(0)
network = tf.keras.Sequential([tf.keras.Input((64,)), tf.keras.layers.Dense(100, activation="relu"), tf.keras.layers.Dense(10)])


class Served(tf.Module):
    def __init__(self):
        super().__init__()
        self.network = network

    @tf.function(input_signature=[tf.TensorSpec([1, 64], tf.float32, "pixels")])
    def serve(self, pixels):
        return {"scores": self.network(pixels, training=False)}


def answers(content):
    """What the file says to each sample."""
    interpreter = tf.lite.Interpreter(model_content=content)
    run = interpreter.get_signature_runner() if interpreter.get_signature_list() else None
    rows = []
    for sample in samples:
        if run is not None:
            rows.append(next(iter(run(pixels=sample[None]).values()))[0])
        else:
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(rows)


def archive():
    made = tf.keras.export.ExportArchive()
    made.track(network)
    made.add_endpoint("serve", lambda pixels: {"scores": network(pixels, training=False)}, [tf.TensorSpec([1, 64], name="pixels")])
    made.write_out("archive", verbose=False)
    return tf.lite.TFLiteConverter.from_saved_model("archive", signature_keys=["serve"])


def module():
    tf.saved_model.save(served, "module", signatures={"serve": served.serve})
    return tf.lite.TFLiteConverter.from_saved_model("module", signature_keys=["serve"])


def concrete():
    return tf.lite.TFLiteConverter.from_concrete_functions([served.serve.get_concrete_function()], network)


samples = np.random.default_rng(0).random((20, 64), dtype=np.float32)
right = network(samples, training=False).numpy()
served = Served()
for way, converter, kept in (("an ExportArchive", archive, True), ("a tf.Module", module, False), ("a concrete function", concrete, False)):
    content = converter().convert()
    expect(f"by {way}, its 29 kB of weights are in the file", kept, len(content) > 25_000)
    expect(f"by {way}, it answers as the network", kept, bool(np.allclose(answers(content), right, atol=1e-4)))
END
finish
