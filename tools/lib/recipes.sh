# shellcheck shell=bash
# The environments of the recipes in examples/recipes: .cache/recipes/NAME. To be sourced from the clone's root.
source tools/lib/pinned_environment.sh

# recipe_environment NAME: make the environment with the packages of requirements-NAME.txt, as far as it is not there.
recipe_environment() { make_environment ".cache/recipes/$1" "examples/recipes/requirements-$1.txt"; }

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
