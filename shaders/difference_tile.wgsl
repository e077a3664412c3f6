// Of a tile, joined to the text of a pass after score_tile.wgsl: probabilities from the log-sum-exps of the rows, and the
// difference of two networks' means of them over heads.

// Probabilities of the own queries (columns of the matrix) and keys (its rows); zero past the last key.
fn probabilities(net: Network, image: u32, head: u32, query: u32, key: u32, tokens: u32, thread: u32) -> mat4x4<f32> {
    var p = scores(net, image, head, query, key, tokens, thread);
    let mask = present(key, tokens, thread);
    for (var i = 0u; i < 4u; i++) {
        let level = statistics[row_of(image, query, i, tokens, thread) * row_length() + net.level + head];
        p[i] = select(vec4(0.0), exp(p[i] - level), mask);
    }
    return p;
}

fn difference(image: u32, query: u32, key: u32, tokens: u32, thread: u32) -> mat4x4<f32> {
    let pupil = student_network();
    let model = teacher_network();
    var a = mat4x4<f32>();
    for (var h = 0u; h < model.heads; h++) {
        a += probabilities(model, image, h, query, key, tokens, thread);
    }
    var b = mat4x4<f32>();
    for (var h = 0u; h < pupil.heads; h++) {
        b += probabilities(pupil, image, h, query, key, tokens, thread);
    }
    return b * (1.0 / f32(pupil.heads)) - a * (1.0 / f32(model.heads));
}
