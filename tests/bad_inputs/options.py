"""Options out of range, of another kind, or that do not belong together."""

from __future__ import annotations

from tests.bad_inputs.row import OURS, UNET, Place, Row, said

BOX = ["--box", "3,10,12:3,30,33"]


def segment(*words: str):
    """``segment`` of an image of noise, with a good box."""

    def make(place: Place):
        place.image("ct.nii.gz")
        return ["segment", "ct.nii.gz", "-o", "out.nii.gz", "--model", place.model, "-device", "cpu", *BOX, *words]

    return make


def image_of(name: str):
    def make(place: Place):
        place.write("notes.txt", "no image")
        return ["segment", name, "-o", "out.nii.gz", "--model", place.model, *BOX]

    return make


def plain(*words: str):
    """A command that needs no files."""
    return lambda place: list(words)


def plan(*words: str):
    def make(place: Place):
        place.preprocessed()
        return ["plan", "-d", "301", *words]

    return make


def compare(*words: str, command: str = "compare"):
    def make(place: Place):
        place.preprocessed()
        place.validated(UNET)
        place.validated(OURS)
        return [command, "-d", "301", "--processes", "1", *words]

    return make


def prompt_benchmark(*words: str):
    def make(place: Place):
        place.preprocessed()
        return ["prompt-benchmark", "-d", "301", "-o", "out", "--model", place.model, "-device", "cpu", *words]

    return make


def rank(*words: str):
    def make(place: Place):
        place.dataset()
        place.image("new_1_0000.nii.gz")
        place.write("p.csv", 'image,prompt,where\nnew_1_0000.nii.gz,box,"3,10,12:3,30,33"\n')
        model = ["--model", place.model, "-device", "cpu"]
        return ["annotate", "rank", "-d", "301", "--prompts", "p.csv", "--round", "round", *model, *words]

    return make


def predict(*words: str):
    def make(place: Place):
        place.write("model/plans.json", {"dataset_name": "D", "plans_name": "P", "configurations": {}})
        place.write("model/dataset.json", {"file_ending": ".nii.gz", "labels": {"background": 0, "organ": 1}})
        place.write("model/fold_0/checkpoint_final.pth", b"not looked at")
        place.image("images/a_0000.nii.gz")
        return ["predict", "-m", "model", "-i", "images", "-o", "out", "-device", "cpu", *words]

    return make


def splits(*words: str):
    def make(place: Place):
        place.preprocessed()
        return ["splits", "-d", "301", *words]

    return make


ROWS = [
    # ---- the command itself
    Row("no command", plain(), said("COMMAND")),
    Row("unknown command", plain("segmnet"), said("segmnet", "segment")),
    Row("unknown option", segment("--boxx", "1"), said("unrecognized arguments: --boxx 1")),
    # ---- segment
    Row("slices reversed", segment("--slices", "6", "2"), said("--slices is 6 2", "first and the last")),
    Row("slices negative", segment("--slices", "-3", "2"), said("--slices is -3 2")),
    Row("slices outside", segment("--slices", "2", "90"), said("90", "0 to 6")),
    Row(
        "slices without a prompt",
        segment("--slices", "4", "6"),
        said("a prompt at 3, but goes from 4 to 6"),
    ),
    Row("one slice", segment("--slices", "4"), said("--slices", "expected 2 arguments")),
    Row("axis 3", segment("--axis", "3"), said("--axis", "3", "0, 1, 2")),
    Row("image size 100", segment("--image-size", "100"), said("--image-size is 100", "multiple of 32")),
    Row("image size 0", segment("--image-size", "0"), said("--image-size is 0", "multiple of 32")),
    Row("image size negative", segment("--image-size", "-512"), said("--image-size is -512")),
    Row("image size no number", segment("--image-size", "big"), said("--image-size", "'big'")),
    Row("window unknown", segment("--window", "liver"), said("--window is liver", "abdomen")),
    Row("window of three words", segment("--window", "40", "400", "1"), said("--window is 40 400 1")),
    Row("window of no width", segment("--window", "40", "0"), said("--window is 40 0", "above 0")),
    Row("window nan", segment("--window", "nan", "400"), said("--window is nan 400", "finite")),
    Row("window infinite", segment("--window", "40", "inf"), said("--window is 40 inf", "finite")),
    Row("device tpu", segment("-device", "tpu"), said("device is 'tpu'", "cuda")),
    Row("device mps", segment("-device", "mps"), said("device is 'mps'", "auto, cpu, cuda")),
    Row("device cuda 99", segment("-device", "cuda:99"), said("device is 'cuda:99'")),
    Row("device meta", segment("-device", "meta"), said("device is 'meta'")),
    Row("precision unknown", segment("--precision", "float8"), said("--precision", "'float8'", "bfloat16")),
    Row("unit unknown", segment("--unit", "cm"), said("--unit", "'cm'", "mm")),
    Row("model unknown", segment("--model", "sam3_huge"), said("model is 'sam3_huge'", "sam2.1_hiera_tiny")),
    Row("model not installed", segment("--model", "sam2.1_hiera_large"), said("sam2_3dmed weights sam2.1_hiera_large")),
    Row("model file missing", segment("--model", "none.pt"), said("there is no file none.pt")),
    Row("model is a folder", segment("--model", "."), said("model is '.'", "must be a file")),
    Row("image missing", image_of("no.nii.gz"), said("there is no file", "no.nii.gz")),
    Row("image is text", image_of("notes.txt"), said("notes.txt", "no kind of image")),
    Row("no image", lambda p: ["segment", "-o", "a.nii.gz", *BOX], said("which image")),
    Row("no output", lambda p: ["segment", "ct.nii.gz", *BOX], said("-o")),
    Row("no prompt", lambda p: ["segment", p.image("a.nii").name, "-o", "b.nii"], said("where the object is")),
    Row("format unknown", lambda p: batch_of(p, "--format", ".png"), said(".png", ".nii.gz")),
    # ---- plan
    Row("plan image size 100", plan("--image-size", "100"), said("100", "multiple of 32")),
    Row("plan no slices", plan("--slices", "0"), said("0")),
    Row("plan negative slices", plan("--slices", "-4"), said("-4")),
    Row("plan backbone", plan("--backbone", "vit_h"), said("the backbone is 'vit_h'", "sam2.1_hiera_tiny")),
    Row("plan memories", plan("--memories", "9"), said("9", "1 to 7")),
    Row("plan batch size", plan("--batch-size", "0"), said("batch size is 0")),
    Row("plan memory", plan("--gpu-memory", "-1"), said("GPU memory is -1")),
    Row("plan memory nan", plan("--gpu-memory", "nan"), said("GPU memory is nan")),
    Row("plan patch negative", plan("--patch-size", "-32", "64"), said("-32")),
    Row("plan patch zero", plan("--patch-size", "0", "64"), said("0")),
    Row("plan patch one number", plan("--patch-size", "64"), said("--patch-size", "expected 2 arguments")),
    Row("plan over nnU-Net's", plan("--name", "3d_fullres"), said("3d_fullres")),
    Row("plan without a name", plan("--name", ""), said("name")),
    Row("plan with a separator", plan("--name", "3d__x"), said("3d__x")),
    Row("plan with a path", plan("--name", "a/b"), said("a/b")),
    # ---- compare and report
    Row("compare tolerance negative", compare("--tolerance", "-1"), said("tolerance is -1")),
    Row("compare tolerance nan", compare("--tolerance", "nan"), said("tolerance is nan")),
    Row("compare tolerance infinite", compare("--tolerance", "inf"), said("tolerance is inf")),
    Row("compare no processes", compare("--processes", "0"), said("processes is 0")),
    Row("compare negative processes", compare("--processes", "-2"), said("processes is -2")),
    Row("compare fold that is none", compare("-f", "x"), said("fold x")),
    Row("compare fold twice", compare("-f", "0", "0"), said("0", "twice")),
    Row("compare unknown reference", compare("--reference", "me"), said("the reference is 'me'", UNET)),
    Row("compare method without a folder", compare("-m", "a="), said("a=")),
    Row("compare method without a name", compare("-m", "=out"), said("=out")),
    Row("compare unknown published", compare("--published", "Mamba"), said("--published", "'Mamba'")),
    Row("report negative processes", compare("--processes", "-2", command="report"), said("processes is -2")),
    # ---- prompt-benchmark
    Row("prompts no clicks", prompt_benchmark("--clicks", "0"), said("--clicks is 0")),
    Row("prompts fold 7", prompt_benchmark("-f", "7"), said("the fold is '7'")),
    Row("prompts fold negative", prompt_benchmark("-f", "-1"), said("-1")),
    Row("prompts unknown protocol", prompt_benchmark("--protocols", "lasso"), said("--protocols", "'lasso'")),
    Row("prompts unknown case", prompt_benchmark("--cases", "nobody"), said("nobody is none of the 2 cases")),
    Row("prompts channel 3", prompt_benchmark("--channel", "3"), said("the channel is 3")),
    Row("prompts negative seed", prompt_benchmark("--seed", "-1"), said("--seed is -1")),
    Row("prompts tolerance", prompt_benchmark("--tolerance", "-2"), said("tolerance is -2")),
    Row("prompts image size", prompt_benchmark("--image-size", "500"), said("--image-size is 500")),
    # ---- loop
    Row("rank window", rank("--window", "40", "wide"), said("--window is 40 wide")),
    Row("rank image size", rank("--image-size", "33"), said("--image-size is 33")),
    Row("rank device", rank("-device", "gpu"), said("device is 'gpu'")),
    Row("rank images without predictions", rank("-i", "."), said("--predictions and -i")),
    Row("annotate without an action", plain("annotate"), said("ACTION")),
    Row(
        "take accept below 2",
        lambda p: ["annotate", "take", "-d", "301", "--round", "r", "--accept-below", "2"],
        said("2"),
    ),
    Row(
        "take accept below nan",
        lambda p: ["annotate", "take", "-d", "301", "--round", "r", "--accept-below", "nan"],
        said("nan"),
    ),
    Row(
        "take without a round",
        lambda p: [p.dataset(), "annotate", "take", "-d", "301", "--round", "r"][1:],
        said("r/round.json"),
    ),
    Row("finetune no processes", plain("annotate", "finetune", "-d", "3", "-f", "0", "-np", "0"), said("-np is 0")),
    Row("finetune fold of words", plain("annotate", "finetune", "-d", "3", "-f", "all"), said("'all'")),
    # ---- predict
    Row("predict step size 0", predict("-step_size", "0"), said("-step_size is 0")),
    Row("predict step size nan", predict("-step_size", "nan"), said("-step_size is nan")),
    Row("predict no processes", predict("-npp", "0"), said("-npp is 0")),
    Row("predict part", predict("-num_parts", "2", "-part_id", "5"), said("-part_id is 5")),
    Row("predict fold", predict("-f", "3"), said("fold_3", "trained: 0")),
    Row("predict fold of words", predict("-f", "../0"), said("trained: 0")),
    Row("predict neither model nor dataset", lambda p: predict()(p)[:1] + ["-i", ".", "-o", "out"], said("either -d")),
    # ---- splits, weights, demo, train, env
    Row("splits regex", splits("--group-by", "("), said("not a regular expression")),
    Row("splits no group", splits("--group-by", "case"), said("no group in parentheses")),
    Row("splits no match", splits("--group-by", "(patient)"), said("does not match")),
    Row("splits one fold", splits("--group-by", r"(case_\d+)", "--folds", "1", "--force"), said("1")),
    Row("splits too many folds", splits("--group-by", r"(case_\d+)", "--folds", "99", "--force"), said("99")),
    Row("splits exist already", splits("--group-by", r"(case_\d+)"), said("exists already", "--force")),
    Row("weights unknown", plain("weights", "sam9"), said("'sam9'", "sam2.1_hiera_tiny")),
    Row("weights as for a download", plain("weights", "sam2_hiera_tiny", "--as", "x"), said("--as is for a file")),
    Row("demo few cases", plain("demo", "--cases", "2"), said("--cases 2")),
    Row("demo minutes", plain("demo", "--minutes", "0"), said("--minutes 0")),
    Row("demo data missing", plain("demo", "--data", "Task09_No"), said("Task09_No")),
    Row("train without torchrun", plain("train", "9", "3d", "0"), said("torchrun"), environment={"WORLD_SIZE": None}),
    Row("train fold", plain("train", "9", "3d", "first"), said("the fold is 'first'"), environment={"WORLD_SIZE": "1"}),
    Row(
        "train both",
        plain("train", "9", "3d", "0", "--c", "--val"),
        said("--c and --val"),
        environment={"WORLD_SIZE": "1"},
    ),
]


def batch_of(place: Place, *words: str) -> list[object]:
    """``segment --batch`` with one good line."""
    place.image("a.nii.gz")
    place.write("p.csv", 'image,prompt,where\na.nii.gz,box,"3,10,12:3,30,33"\n')
    return ["segment", "--batch", "p.csv", "-o", "out", "--model", place.model, "-device", "cpu", *words]
