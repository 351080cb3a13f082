"""Pictures of sweeps, trainings and stores."""
