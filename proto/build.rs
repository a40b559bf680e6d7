//! Generates clients and servers from `protos/` with protoc.

fn main() -> std::io::Result<()> {
    let protos =
        ["cri", "deviceplugin", "pluginregistration", "podresources", "health"].map(|p| format!("protos/{p}.proto"));
    for proto in &protos {
        // One call each: two of the packages define messages of the same name.
        tonic_prost_build::configure().compile_protos(&[proto.as_str()], &["protos"])?;
    }
    Ok(())
}
