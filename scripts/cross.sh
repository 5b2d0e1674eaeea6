# Sourced by the scripts that compile for other targets.
#
# `cross_cargo TARGET COMMAND ARGUMENT…` runs cargo for a target on any Linux machine. rustup's target is used, and added
# where possible. Elsewhere Debian's packages do it, which hold Rust together with the source of its standard library:
# -Zbuild-std compiles that for the target. CROSS=debian chooses them even where rustup is installed.

rustup_has() {
  [ "${CROSS:-}" != debian ] && command -v rustup >/dev/null || return 1
  rustup target list --installed | grep -qx "$1" && return
  timeout 120 rustup target add "$1" >/dev/null 2>&1
}

# Installs Debian packages that are missing.
debian() {
  dpkg -s "$@" >/dev/null 2>&1 && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

cross_cargo() {
  local target="$1" command="$2"
  shift 2
  # Import libraries for Windows are made with its dlltool.
  [ "$target" != x86_64-pc-windows-gnu ] || debian binutils-mingw-w64-x86-64
  if rustup_has "$target"; then
    cargo "$command" --target "$target" "$@"
  else
    debian rustc-web cargo-web rust-web-src lld
    # -Zbuild-std is not stable; RUSTC_BOOTSTRAP permits it.
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo "$command" --target "$target" -Zbuild-std "$@"
  fi
}
