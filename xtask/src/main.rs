//! The binary behind `cargo xtask`: all it does is call [`xtask::cli::main`].

fn main() -> std::process::ExitCode {
    xtask::cli::main()
}
