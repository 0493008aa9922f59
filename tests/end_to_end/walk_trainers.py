"""Train, or predict with, one trainer after another, in a process of its own.

python walk_trainers.py train DATASET CONFIGURATION:TRAINER...
python walk_trainers.py predict DATASET IMAGE OUTPUT_FOLDER CONFIGURATION:TRAINER...
"""

import sys
from os.path import join

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.paths import nnUNet_results
from nnunetv2.run.run_training import get_trainer_from_args

CPU = torch.device("cpu")


def train(dataset: str, *pairs: str) -> None:
    torch.manual_seed(0)
    for configuration, name in (pair.split(":") for pair in pairs):
        trainer = get_trainer_from_args(dataset, configuration, 0, name, device=CPU)
        trainer.num_epochs = trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 1
        if len(pairs) > 1:
            trainer._best_ema = 1.0  # one checkpoint of each is enough,
            trainer.logger.plot_progress_png = lambda folder: None  # and no plot, which takes as long as the training
        trainer.run_training()


def predict(dataset: str, image: str, output: str, *pairs: str) -> None:
    for configuration, name in (pair.split(":") for pair in pairs):
        predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
        folder = join(nnUNet_results, dataset, f"{name}__nnUNetPlans__{configuration}")
        predictor.initialize_from_trained_model_folder(folder, (0,), "checkpoint_final.pth")
        predictor.predict_from_files_sequential([[image]], [join(output, f"{name}.nii.gz")], overwrite=True)


if __name__ == "__main__":
    {"train": train, "predict": predict}[sys.argv[1]](*sys.argv[2:])
