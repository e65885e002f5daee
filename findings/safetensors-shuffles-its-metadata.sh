#!/usr/bin/env bash
# The same weights with the same metadata, saved twice by safetensors, are two files.
#
# Guess:    saving the same tensors with the same metadata gives the same bytes, so that a release is named by its digest, and
#           "published already" is found by comparing it.
# Truth:    the metadata is written in a new order on each call, in one process too. Without metadata, or with one entry, the
#           bytes are stable. Readers see no difference; a digest does.
# Versions: safetensors 0.8.0, NumPy 2.4.6.
# Fleet:    a pipeline that runs again publishes "another" model: each device fetches all of it and goes through a trial, and the
#           rule "a version is never published with other bytes" refuses what did not change. Put all facts into one entry.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here safetensors==0.8.0 numpy==2.4.6
python_finding here <<'EOF'
import json
import numpy as np
from safetensors.numpy import save
from finding import expect

weights = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}
facts = {"model": "digits", "version": "1.2.0", "framework": "numpy", "task": "classify", "licence": "MIT"}
one = {"facts": json.dumps(facts)}
for what, metadata, stable in (("none", None, True), ("five facts", facts, False), ("five facts in one entry", one, True)):
    expect(f"metadata: {what}: stable bytes", stable, len({save(weights, metadata) for _ in range(50)}) == 1)
EOF
finish
