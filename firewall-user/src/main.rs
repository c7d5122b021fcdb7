//! The `sluice` binary.

fn main() -> std::process::ExitCode {
    firewall_user::cli::main()
}
