//! A course on drawn digits, driven as the command and the page drive theirs.

use burn::backend::read_sync;
use burn::tensor::Device;
use potstill_core::data::{Digits, ImageShape, Normalisation, Split, Transform, assemble_visits};
use potstill_core::method::{Lesson, Preset};
use potstill_core::model::{Network, NetworkConfig};
use potstill_core::train::{AdamWConfig, Batches, Course, CourseConfig, DeviceBatch, Schedule, Taken, TrainingRecipe};

/// Training digits that there are.
pub const SAMPLES: usize = 512;

/// A recipe of batches of `batch_size` at one learning rate.
pub fn recipe(batch_size: usize, lr: f64, optimiser: AdamWConfig) -> TrainingRecipe {
    TrainingRecipe { batch_size, lr, schedule: Schedule::Constant, optimiser, ..TrainingRecipe::digits() }
}

/// The course of a student that is drawn from `seed`.
pub fn course(
    student: &NetworkConfig,
    seed: u64,
    (preset, teacher): (&Preset, Option<&Network>),
    recipe: TrainingRecipe,
    steps: u64,
    device: &Device,
) -> Course {
    let batches = Batches::new(SAMPLES, recipe.batch_size, 1, 0);
    let lesson = Lesson::new(&preset.objective(), &student.shape(), teacher.cloned().map(Into::into));
    let lesson = lesson.expect("networks that fit");
    let config = CourseConfig { lesson, recipe, batches, steps, seed: 0 };
    let student = student.init(seed, &device.clone().autodiff()).expect("a valid model");
    Course::new(student, config, device)
}

/// Takes at most `steps` steps of courses on the same batches, and reads all of them in one transfer every `read_every`.
pub fn drive(courses: &mut [&mut Course], steps: u64, read_every: usize, device: &Device) -> Vec<Vec<Taken>> {
    let digits = Digits::new(Split::Train, SAMPLES);
    let shape = ImageShape { channels: 1, height: 28, width: 28 };
    let transform = Transform::plain(shape, Normalisation::mnist());
    let mut order = courses[0].config().batches.order();
    let mut taken = vec![Vec::new(); courses.len()];
    for step in 1..=steps {
        let visits = order.visits(courses[0].step());
        let batch = DeviceBatch::new(assemble_visits(&digits, visits, &transform, None).expect("digits"), device);
        courses.iter_mut().for_each(|course| course.take(batch.clone()).expect("digits"));
        let over = step == steps || courses[0].is_finished();
        if over || courses[0].unread() == read_every || courses.iter().any(|course| course.must_read()) {
            let read = read_sync(Course::read(courses)).expect("a device that works");
            taken.iter_mut().zip(read).for_each(|(all, new)| all.extend(new));
        }
        if over {
            break;
        }
    }
    taken
}
