// The entry point, which is added to every text. The text declares work(unit, thread, span), the work of invocation `thread` of
// workgroup `unit`. If one axis of a dispatch is too short for the workgroups, a second axis is used, so there may be workgroups
// past the last. `span` is the number of neighbours that share a subgroup, for a text that sums with subgroups: see
// row_reduce.wgsl.

@compute @workgroup_size({{ threads }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
//@ if subgroups
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) place: u32,
//@ end
) {
//@ if subgroups
    let span = neighbours(thread, size, place);
//@ else
    let span = 0u;
//@ end
    work(group.x + group.y * groups.x, thread, span);
}
