// The entry point, joined to every text, which declares work(unit, thread, span): what invocation `thread` of workgroup `unit`
// does. Workgroups past the limit of one axis of a dispatch fold into the second, so there may be some past the last. `span`
// says how many neighbours share a subgroup, where a text sums by subgroups: see row_reduce.wgsl.

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
