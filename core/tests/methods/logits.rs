//! KD: distillation from logits.

use potstill_core::method::{LogitDistillation, Normalisation, Preset};
use potstill_core::model::Trace;

use crate::plain::{close, golden_logits, loss_of_logits};

#[test]
fn labels_and_logits_are_the_published_numbers() {
    let (student, teacher, targets) = golden_logits();
    let (student, teacher) = (Trace::of_logits(student), Trace::of_logits(teacher));
    let (ce, smoothed) = (1.630_210_565_2, 1.681_389_752_7);
    for (normalisation, temperature, kl) in [
        (Normalisation::Batchmean, 1.0, 0.973_908_025_5),
        (Normalisation::Batchmean, 2.0, 1.622_301_578_0),
        (Normalisation::Batchmean, 3.0, 1.918_616_318_6),
        (Normalisation::Numel, 1.0, 0.194_781_605_1),
        (Normalisation::Numel, 2.0, 0.324_460_315_6),
        (Normalisation::Numel, 3.0, 0.383_723_263_7),
    ] {
        for (smoothing, labels) in [(0.0, ce), (0.1, smoothed)] {
            let kd = LogitDistillation { alpha: 0.3, temperature, normalisation, smoothing };
            let loss = loss_of_logits(&Preset::Kd(kd), &student, &teacher, targets.clone());
            let [first, second] = &loss.parts[..] else { panic!("two parts") };
            close("labels", first.value.clone(), labels);
            close("logits", second.value.clone(), kl);
            close("total", loss.total, 0.7 * labels + 0.3 * kl);
        }
    }
    let labels = loss_of_logits(&Preset::Labels { smoothing: 0.1 }, &student, &teacher, targets);
    close("labels alone", labels.total, smoothed);
}
