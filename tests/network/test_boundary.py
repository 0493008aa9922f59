import torch

from nnunetv2_sam2_3dmed.network.boundary import BoundaryFusion


def test_fusion_against_the_written_out_equations():
    fusion = BoundaryFusion(8)
    boundary, embedding = torch.randn(1, 8, 2, 3), torch.randn(1, 8, 2, 3)
    q, k, v = (
        layer(x[0].reshape(8, 6).T)
        for layer, x in ((fusion.query, boundary), (fusion.key, embedding), (fusion.value, embedding))
    )
    attended = torch.softmax(q @ k.T / 8**0.5, dim=-1) @ v  # equation 3
    expected = fusion.mlp(fusion.norm(attended)) + attended  # equation 4
    torch.testing.assert_close(fusion(boundary, embedding)[0].reshape(8, 6).T, expected, atol=1e-5, rtol=1e-5)
