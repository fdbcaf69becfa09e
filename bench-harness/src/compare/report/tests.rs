use super::*;

pub static LAYOUT: Layout = Layout {
    name: "load",
    columns: &[
        Column::higher("op/s", 0),
        Column::lower("p99 ms", 2),
        Column::lower("p99.9 ms", 2),
        Column::plain("CPU us/op", 1),
    ],
    panels: &[
        Panel::Bars {
            caption: "Latency in ms: p99 and p99.9",
            columns: &["p99 ms", "p99.9 ms"],
            logarithmic: true,
        },
        Panel::Bars { caption: "CPU per operation", columns: &["CPU us/op"], logarithmic: false },
        Panel::Lines { caption: "Disk in MiB over time", series: "disk" },
    ],
};

/// Two groups, three servers, three runs each.
pub fn example() -> Report {
    let machine = Machine {
        date: "2026-01-02".into(),
        cpu: "A CPU & more".into(),
        cores: 2,
        memory_gib: 8,
        kernel: "6.1".into(),
        file_system: "ext4 on /dev/vda".into(),
    };
    let subjects = [PINION, "etcd", "etcd-3.5"].map(str::to_owned).to_vec();
    let command = "bench-harness compare".to_owned();
    let options = serde_json::Value::Null;
    let mut report = Report { machine, command, subjects: subjects.clone(), options, sections: Vec::new() };
    for run in [1.0, 9.0, 2.0] {
        for (group, scale) in [("put", 1.0), ("get", 2.0)] {
            for (subject, factor) in subjects.iter().zip([3.0, 1.0, 1.5]) {
                let mut sample = Sample::default()
                    .with("op/s", run * factor * 1000.0 * scale)
                    .with("p99 ms", run * 3.0 / factor)
                    .with("p99.9 ms", (subject != "etcd").then_some(run * 9.0 / factor))
                    .with("CPU us/op", run * 60.0 / factor);
                if run == 9.0 && subject == "etcd" {
                    sample.errors = 4;
                    sample.note = Some("refused: not | now".to_owned());
                }
                sample
                    .series
                    .insert("disk", (0..50).map(|s| (f64::from(s), factor * f64::from(s))).collect());
                report.add(&LAYOUT, group, subject, sample);
            }
        }
    }
    report.finish();
    report
}

fn column(title: &str) -> &'static Column {
    LAYOUT.columns.iter().find(|column| column.title == title).unwrap()
}

#[test]
fn medians_are_per_column_and_errors_and_notes_are_never_lost() {
    let report = example();
    let [section] = &report.sections[..] else { panic!() };
    let [put, get] = &section.groups[..] else { panic!() };
    assert_eq!((&put.name[..], &get.name[..], put.cells.len()), ("put", "get", 3));
    assert_eq!(put.cells[0].median.value("op/s"), Some(6000.0));
    assert_eq!(put.cells[1].median.errors, 4);
    assert_eq!(put.cells[1].median.note.as_deref(), Some("refused: not | now"));
    assert_eq!(put.cells[1].median.value("p99.9 ms"), None);
    assert_eq!(report.errors(), 8);
}

#[test]
fn ratios_are_to_the_better_peer() {
    let report = example();
    let cells = &report.sections[0].groups[0].cells;
    assert_eq!(ratio_to_peer(column("op/s"), cells), Some(2.0));
    assert_eq!(ratio_to_peer(column("p99 ms"), cells), Some(0.5));
    assert_eq!(ratio_to_peer(column("p99.9 ms"), cells), Some(0.5));
    assert_eq!(ratio_to_peer(column("CPU us/op"), cells), None);
    assert_eq!(ratio_to_peer(column("op/s"), &cells[1..]), None);
}

#[test]
fn a_baseline_has_ratios_of_its_own_and_is_no_peer() {
    let mut report = example();
    for group in &mut report.sections[0].groups {
        group.cells[1].subject = BASELINE.to_owned();
    }
    let cells = &report.sections[0].groups[0].cells;
    assert_eq!(ratio_to_baseline(column("op/s"), cells), Some(3.0));
    // Of builds of one program everything is compared.
    assert_eq!(ratio_to_baseline(column("CPU us/op"), cells).map(|ratio| (ratio * 3.0).round()), Some(1.0));
    // Without one of the two values there is no ratio.
    assert_eq!(ratio_to_baseline(column("p99.9 ms"), cells), None);
    assert_eq!(ratio_to_baseline(column("op/s"), &cells[1..]), None);
    assert_eq!(ratio_to_peer(column("op/s"), cells), Some(2.0), "to etcd-3.5, the only peer left");
    assert_eq!(ratio_to_peer(column("op/s"), &cells[..2]), None);
    let text = report.text();
    let at = |words| text.find(words).unwrap_or_else(|| panic!("{words} in {text}"));
    assert!(at("ratio to baseline") < at("ratio to the better peer"), "{text}");
    assert!(!example().text().contains("ratio to baseline"));
}

#[test]
#[should_panic(expected = "load has no column p98 ms")]
fn a_value_without_a_column_is_a_mistake() {
    example().add(&LAYOUT, "put", PINION, Sample::default().with("p98 ms", 1.0));
}

#[test]
fn medians_of_even_and_odd_counts() {
    assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    assert_eq!(median(vec![]), None);
}

#[test]
fn the_command_is_without_the_build_directory() {
    let words = ["/a/b/bench-harness", "compare", "--peer", "x=/p q"].map(str::to_owned);
    assert_eq!(command(words.into_iter()), "bench-harness compare --peer \"x=/p q\"");
}
