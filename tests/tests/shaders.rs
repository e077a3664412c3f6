//! Every WGSL text in use, through the shader compilers of every platform.
//!
//! naga parses and validates each instance and writes the SPIR-V, MSL and HLSL that native devices would get; `spirv-val`
//! and `tint` (Chrome's compiler) judge them where they are installed. No GPU is needed.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage};
use potstill_core::op::{ShaderInstance, shader_instances};

/// Validated as a browser would: no capability beyond WebGPU's base and those that the instance names.
fn parse(instance: &ShaderInstance) -> (Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(&instance.source)
        .unwrap_or_else(|error| panic!("{}: {}", instance.name, error.emit_to_string(&instance.source)));
    let mut capabilities = Capabilities::empty();
    capabilities.set(Capabilities::SUBGROUP, instance.subgroups);
    capabilities.set(Capabilities::SHADER_FLOAT16, instance.half);
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|error| panic!("{}: {}", instance.name, error.emit_to_string(&instance.source)));
    (module, info)
}

/// Whether `program` runs here; prints why not.
fn available(program: &str) -> bool {
    match Command::new(program).arg("--version").output() {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: checks by {program}, because it is not in PATH");
            false
        }
        Err(error) => {
            println!("skipped: checks by {program}, because it does not run: {error}");
            false
        }
    }
}

/// Runs `program` on `file` and fails with what it says.
fn judge(program: &str, arguments: &[&str], file: &Path, name: &str) {
    let output = Command::new(program).args(arguments).arg(file).output();
    let output = output.unwrap_or_else(|error| panic!("{program} on {name}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{program} refuses {name}: {said}");
}

#[test]
fn instances_have_names_of_their_own_and_no_placeholder_left() {
    let mut names = HashSet::new();
    for instance in shader_instances() {
        assert!(!instance.source.contains("{{") && !instance.source.contains("//@"), "{}", instance.name);
        assert!(names.insert(instance.name.clone()), "{} twice", instance.name);
    }
    println!("{} instances", names.len());
}

#[test]
fn instances_keep_to_the_limits_that_every_device_has() {
    for instance in shader_instances() {
        let (module, _) = parse(&instance);
        let name = &instance.name;
        let size = |space: AddressSpace| {
            let variables = module.global_variables.iter().filter(|(_, variable)| variable.space == space);
            variables.map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx())).sum::<u32>()
        };
        let shared = size(AddressSpace::WorkGroup);
        assert!(shared <= 16 * 1024, "{name}: {shared} bytes of workgroup memory");
        let storage = module.global_variables.iter().filter(|(_, v)| matches!(v.space, AddressSpace::Storage { .. }));
        let mut bindings: Vec<u32> = storage.filter_map(|(_, v)| v.binding.as_ref()).map(|b| b.binding).collect();
        bindings.sort_unstable();
        assert!(bindings.len() <= 7, "{name}: {} storage buffers", bindings.len());
        assert!(bindings.iter().copied().eq(0..bindings.len() as u32), "{name}: bindings {bindings:?}");
        assert_eq!(module.entry_points.len(), 1, "{name}");
        let entry = &module.entry_points[0];
        assert_eq!((entry.name.as_str(), entry.stage), ("main", ShaderStage::Compute), "{name}");
        assert!(entry.workgroup_size.iter().product::<u32>() <= 256, "{name}: {:?}", entry.workgroup_size);
        assert_eq!(instance.half, instance.source.contains("enable "), "{name}");
        // WGSL has none of floats. Beside subgroups they only say whether those are as they should be.
        assert!(instance.subgroups || !instance.source.contains("atomic"), "{name}");
        assert_eq!(instance.subgroups, instance.source.contains("subgroupAdd("), "{name}");
    }
}

#[test]
fn instances_compile_for_every_platform() {
    let folder = std::env::temp_dir().join(format!("potstill-shaders-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the shaders");
    let (spirv_val, tint) = (available("spirv-val"), available("tint"));
    for instance in shader_instances() {
        let (module, info) = parse(&instance);
        let name = &instance.name;
        let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
        let words = spv::write_vec(&module, &info, &options, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let options = msl::Options { lang_version: (2, 4), ..msl::Options::default() };
        let (text, _) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.contains("kernel void"), "{name}");
        // The first with wave operations, and the first with 16 bits.
        let shader_model = match (instance.half, instance.subgroups) {
            (true, _) => hlsl::ShaderModel::V6_2,
            (false, true) => hlsl::ShaderModel::V6_0,
            (false, false) => hlsl::ShaderModel::V5_1,
        };
        let options = hlsl::Options { shader_model, ..hlsl::Options::default() };
        let pipeline = hlsl::PipelineOptions::default();
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.contains("numthreads"), "{name}");
        if spirv_val {
            let file = folder.join("shader.spv");
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            std::fs::write(&file, bytes).expect("a file for the shader");
            judge("spirv-val", &["--target-env", "vulkan1.1"], &file, name);
        }
        if tint {
            let file = folder.join("shader.wgsl");
            // naga knows subgroups without this line, and refuses it.
            let enable = if instance.subgroups { "enable subgroups;\n" } else { "" };
            std::fs::write(&file, format!("{enable}{}", instance.source)).expect("a file for the shader");
            judge("tint", &["--format", "wgsl"], &file, name);
        }
    }
    std::fs::remove_dir_all(&folder).expect("the folder of the shaders");
}
