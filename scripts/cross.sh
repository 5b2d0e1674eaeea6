# Functions for the scripts that compile for other targets; to be sourced.
#
# `cross_cargo TARGET COMMAND ARGUMENT…` runs cargo for a target on any Linux machine. If rustup has the target or can
# add it, rustup's toolchain is used; otherwise Debian's, which includes the source of the standard library for
# -Zbuild-std. CROSS=debian selects Debian's toolchain even if rustup is installed.

# Asked once for each target, because without a network rustup takes its time to find out.
declare -A rustup_knows
rustup_has() {
  [ "${CROSS:-}" != debian ] && command -v rustup >/dev/null || return 1
  [ "${rustup_knows[$1]:-}" ] || rustup_knows[$1]=$(
    rustup target list --installed | grep -x "$1" >/dev/null || timeout 120 rustup target add "$1" >/dev/null 2>&1 && echo yes || echo no
  )
  [ "${rustup_knows[$1]}" = yes ]
}

# Installs missing Debian packages.
debian() {
  dpkg -s "$@" >/dev/null 2>&1 && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Installs the toolchain for a target, which cross_cargo does itself; but several at once would get into each other's way.
cross_install() {
  # This package provides dlltool, which creates import libraries for Windows.
  [ "$1" != x86_64-pc-windows-gnu ] || debian binutils-mingw-w64-x86-64
  rustup_has "$1" || debian rustc-web cargo-web rust-web-src lld
}

cross_cargo() {
  local target="$1" command="$2"
  shift 2
  cross_install "$target"
  if rustup_has "$target"; then
    cargo "$command" --target "$target" "$@"
  else
    # RUSTC_BOOTSTRAP permits -Zbuild-std, which is unstable. The browser page is compiled with panic = "abort", and cargo
    # does not build that crate unless asked.
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo "$command" --target "$target" -Zbuild-std=std,panic_abort "$@"
  fi
}
