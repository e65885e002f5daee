# shellcheck shell=bash
# The environments of the recipes in examples/recipes: .cache/recipes/NAME. To be sourced from the clone's root.

# recipe_environment NAME: make the environment with the packages of requirements-NAME.txt, as far as it is not there.
recipe_environment() {
    local requirements=examples/recipes/requirements-$1.txt venv=.cache/recipes/$1 digest
    digest=$(sha256sum "$requirements")
    if [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$digest" ]; then return; fi
    say "$venv: the packages of $requirements"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
    echo "$digest" >"$venv/.stamp"
}

# ncnn_converter: have pnnx in .cache/recipes/pnnx, without PyTorch, which its program does not need.
ncnn_converter() {
    local directory=.cache/recipes/pnnx package
    package=$(sed -n 's/^PACKAGE = "\(.*\)"$/\1/p' plugins/plugin_utils/_publish/ncnn_variant.py)
    if [ "$(cat "$directory/.stamp" 2>/dev/null)" = "$package" ]; then return; fi
    say "$directory: $package"
    rm -rf "$directory"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$directory" "$package"
    echo "$package" >"$directory/.stamp"
}
