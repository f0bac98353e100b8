//! Makes Rust of `orders.proto`. protox is a protobuf compiler in Rust, so that nobody has to install `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = "../proto";
    println!("cargo::rerun-if-changed={protos}");
    let files = protox::compile(["orders.proto"], [protos])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
