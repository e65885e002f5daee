#!/usr/bin/env bash
# cyclonedx-python-lib reads a model's bill of materials, validates it, and writes it without the model card, under the same identity.
#
# Guess:    what the library reads and writes again in the same version of the format is the same document; what it does not know, it
#           refuses, or keeps. It does refuse a component of an unknown type.
# Truth:    `modelCard` (metrics, limits of use, datasets), `data` (what the training data is, and how confidential) and annotations are
#           left out without a word or a warning. The result is valid too, and has the serial number and the version of the
#           original, which are what names a document.
# Versions: cyclonedx-python-lib 11.12.0, CycloneDX 1.6.
# Fleet:    a pipeline step that only adds a licence or the digest of a quantised variant takes away what an auditor asks for, "accuracy at
#           night: .71", and the signature after it covers the rest. Edit the JSON itself, and validate with the library.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here "cyclonedx-python-lib[json-validation]==11.12.0" jsonschema==4.26.0
python_finding here <<'EOF'
import json
import warnings
from cyclonedx.model.bom import Bom
from cyclonedx.output import OutputFormat, make_outputter
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from finding import expect

metric = {"type": "accuracy", "value": "0.71", "slice": "night"}
model = {
    "type": "machine-learning-model",
    "bom-ref": "model",
    "name": "detector",
    "version": "1.4.0",
    "hashes": [{"alg": "SHA-256", "content": "a" * 64}],
    "modelCard": {
        "modelParameters": {"task": "detection", "datasets": [{"ref": "data"}]},
        "quantitativeAnalysis": {"performanceMetrics": [metric]},
        "considerations": {"technicalLimitations": ["not at night"]},
    },
}
data = {
    "type": "data",
    "bom-ref": "data",
    "name": "hall-3",
    "data": [{"type": "dataset", "name": "hall-3", "classification": "confidential"}],
}
note = {
    "subjects": ["model"],
    "annotator": {"organization": {"name": "quality"}},
    "timestamp": "2026-01-01T00:00:00Z",
    "text": "released for line 2 only",
}
document = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
    "version": 1,
    "components": [model, data],
    "annotations": [note],
}


def valid(text):
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


expect("the document is valid", True, valid(json.dumps(document)))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    text = make_outputter(Bom.from_json(document), OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
again = json.loads(text)
parts = {part["bom-ref"]: part for part in again["components"]}
expect("what was written again is valid", True, valid(text))
expect("warnings", [], [str(warning.message) for warning in said])
expect("the digest is kept", True, parts["model"].get("hashes") == model["hashes"])
expect("the model card is kept", False, "modelCard" in parts["model"])
expect("what the data is, is kept", False, "data" in parts["data"])
expect("the annotation is kept", False, "annotations" in again)
expect("serial number and version are the same", True, all(again[key] == document[key] for key in ("serialNumber", "version")))
try:
    Bom.from_json(document | {"components": [model | {"type": "model"}]})
    refused = False
except Exception:
    refused = True
expect("a component of an unknown type is refused", True, refused)
EOF
finish
