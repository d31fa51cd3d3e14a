"""The refusals of Microsoft Entra: for each AADSTS number its OAuth 2.0 error and its text.

The numbers and texts are those of
https://learn.microsoft.com/entra/identity-platform/reference-error-codes. Where that page is silent
(``suberror``, the texts of 50173, 65001, 500131 and more), they are as answers that were published
on GitHub have them. So is the answer to a device code that there is not: the documentation has
``bad_verification_code``, and the service 7000014.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ENTRA", "Refusal"]


class Refusal(NamedTuple):
    """One row of the catalogue: the OAuth 2.0 error code and the text, with its placeholders."""

    error: str
    text: str
    suberror: str | None = None


ENTRA = {
    16000: Refusal(
        "interaction_required",
        "Either multiple user identities are available for the current request or selected account "
        "is not supported for the scenario.",
    ),
    28000: Refusal(
        "invalid_scope",
        "Provided value for the input parameter scope is not valid because it contains more than "
        "one resource. Scope {scope} is not valid.",
    ),
    50011: Refusal(
        "invalid_request",
        "The redirect URI '{redirect_uri}' specified in the request does not match the redirect "
        "URIs configured for the application '{client_id}'. Make sure the redirect URI sent in the "
        "request matches one added to your application in the Azure portal. Navigate to "
        "https://aka.ms/redirectUriMismatchError to learn more about how to troubleshoot this.",
    ),
    50013: Refusal("invalid_grant", "Assertion failed signature validation. [Reason - {detail}]"),
    50020: Refusal(
        "access_denied",
        "User account '{{EmailHidden}}' from identity provider '{issuer}' does not exist in tenant "
        "'{tenant}' and cannot access the application '{client_id}' in that tenant. The account "
        "needs to be added as an external user in the tenant first. Sign out and sign in again "
        "with a different Azure Active Directory user account.",
    ),
    50027: Refusal("invalid_client", "JWT token is invalid or malformed."),
    50034: Refusal(
        "invalid_grant",
        # Entra hides the name just so.
        "The user account {{EmailHidden}} does not exist in the {tenant} directory. To sign into "
        "this application, the account must be added to the directory.",
    ),
    50057: Refusal("invalid_grant", "The user account is disabled."),
    50058: Refusal("login_required", "A silent sign-in request was sent but {detail}."),
    50059: Refusal(
        "invalid_request",
        "No tenant-identifying information found in either the request or implied by any "
        "provided credentials.",
    ),
    50074: Refusal(
        "interaction_required",
        "Strong Authentication is required and the user did not pass the MFA challenge.",
    ),
    50076: Refusal(
        "interaction_required",
        "Due to a configuration change made by your administrator, or because you moved to a new "
        "location, you must use multi-factor authentication to access '{resource}'.",
        "basic_action",
    ),
    50126: Refusal(
        "invalid_grant",
        "Error validating credentials due to invalid username or password.",
    ),
    50147: Refusal("invalid_request", "Invalid size of Code_Challenge parameter."),
    50148: Refusal(
        "invalid_grant",
        "The code_verifier does not match the code_challenge supplied in the authorization request "
        "for PKCE.",
    ),
    50149: Refusal("invalid_request", "Invalid Code_Challenge_method parameter."),
    50173: Refusal(
        "invalid_grant",
        "The provided grant has expired due to it being revoked, a fresh auth token is needed. The "
        "user might have changed or reset their password. The grant was issued on '{issued}' and "
        "the TokensValidFrom date (before which tokens are not valid) for this user is "
        "'{valid_from}'.",
    ),
    54005: Refusal(
        "invalid_grant",
        "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use "
        "an existing refresh token.",
    ),
    65001: Refusal(
        "invalid_grant",
        "The user or administrator has not consented to use the application with ID '{client_id}' "
        "named '{client_id}'. Send an interactive authorization request for this user and "
        "resource.",
        "consent_required",
    ),
    65004: Refusal("access_denied", "User declined to consent to access the app."),
    70000: Refusal("invalid_grant", "Provided grant is invalid or malformed.", "bad_token"),
    70003: Refusal(
        "unsupported_grant_type", "The app requested an unsupported grant type '{grant_type}'."
    ),
    70007: Refusal(
        "invalid_request",
        "'{response_mode}' is not a supported value of 'response_mode'.",
    ),
    70008: Refusal(
        "invalid_grant",
        "The provided authorization code or refresh token has expired due to inactivity. Send a "
        "new interactive authorization request for this user and resource.",
    ),
    70011: Refusal(
        "invalid_scope",
        "The provided request must include a 'scope' input parameter. The provided value for the "
        "input parameter 'scope' is not valid. The scope {scope} is not valid.",
    ),
    70016: Refusal(
        "authorization_pending",
        "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
    ),
    70018: Refusal(
        "authorization_declined",
        "OAuth 2.0 device flow error. The end user has denied the authorization request.",
    ),
    70020: Refusal(
        "expired_token",
        "The provided value for the input parameter 'device_code' is not valid. This device code "
        "has expired.",
    ),
    82001: Refusal(
        "unauthorized_client",
        "Agentic application '{client_id}' is not permitted to request app-only tokens for "
        "resource '{resource}'.",
    ),
    90002: Refusal(
        "invalid_tenant",
        "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are "
        "signing into the correct cloud. Check with your subscription administrator, this may "
        "happen if there are no active subscriptions for the tenant.",
    ),
    90023: Refusal("invalid_request", "Unsupported '{parameter}' value."),
    90100: Refusal("invalid_request", "{parameter} parameter is empty or not valid."),
    240002: Refusal("invalid_request", "Input id_token cannot be used as '{grant_type}' grant."),
    500011: Refusal(
        "invalid_resource",
        "The resource principal named {resource} was not found in the tenant named {tenant}. This "
        "can happen if the application has not been installed by the administrator of the tenant "
        "or consented to by any user in the tenant.",
    ),
    500112: Refusal(
        "invalid_client",
        "The reply address '{redirect_uri}' does not match the reply address '{expected}' provided "
        "when requesting Authorization code.",
    ),
    500113: Refusal("invalid_request", "No reply address is registered for the application."),
    500131: Refusal(
        "invalid_grant",
        "Assertion audience does not match the Client app presenting the assertion. The audience "
        "in the assertion was '{audience}' and the expected audience is '{client_id}' or one of "
        "the Application Uris of this application with App ID '{client_id}'({client_id}). The "
        "downstream client must request a token for the expected audience (the application that "
        "made the OBO request) and this application should use that token as the assertion.",
    ),
    500133: Refusal(
        "invalid_grant",
        "Assertion is not within its valid time range. Ensure that the access token is not expired "
        "before using it for user assertion, or request a new token. Current time: {now}, expiry "
        "time of assertion {expiry}.",
    ),
    501481: Refusal(
        "invalid_grant",
        "The Code_Verifier does not match the code_challenge supplied in the authorization "
        "request.",
    ),
    700005: Refusal(
        "invalid_grant",
        "Provided Authorization Code is intended to use against other tenant, thus rejected.",
    ),
    700007: Refusal("invalid_grant", "The grant was issued for a different client id."),
    700016: Refusal(
        "unauthorized_client",
        "Application with identifier '{client_id}' was not found in the directory '{tenant}'. "
        "This can happen if the application has not been installed by the administrator of the "
        "tenant or consented to by any user in the tenant.",
    ),
    700021: Refusal(
        "invalid_client",
        "Client assertion application identifier doesn't match 'client_id' parameter.",
    ),
    700023: Refusal(
        "invalid_client", "Client assertion audience claim does not match Realm issuer."
    ),
    700024: Refusal(
        "invalid_client", "Client assertion is not within its valid time range. {detail}"
    ),
    700025: Refusal(
        "invalid_client",
        "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
    ),
    700027: Refusal("invalid_client", "Client assertion failed signature validation. {detail}"),
    700054: Refusal(
        "unsupported_response_type",
        "response_type '{response_type}' is not enabled for the application.",
    ),
    700082: Refusal(
        "invalid_grant",
        "The refresh token has expired due to inactivity. The token was issued on {issued} and was "
        "inactive for {lifetime}.",
    ),
    700211: Refusal(
        "invalid_client",
        "No matching federated identity record found for presented assertion issuer '{issuer}'.",
    ),
    700212: Refusal(
        "invalid_client",
        "No matching federated identity record found for presented assertion audience "
        "'{audience}'.",
    ),
    700213: Refusal(
        "invalid_client",
        "No matching federated identity record found for presented assertion subject '{subject}'.",
    ),
    900144: Refusal(
        "invalid_request",
        "The request body must contain the following parameter: '{parameter}'.",
    ),
    1002012: Refusal(
        "invalid_scope",
        "The provided value for scope {scope} is not valid. Client credential flows must have a "
        "scope value with /.default suffixed to the resource identifier (application ID URI).",
    ),
    7000014: Refusal(
        "invalid_grant",
        "The provided value for the input parameter 'device_code' is not valid.",
    ),
    7000114: Refusal(
        "unauthorized_client",
        "Application '{client_id}' is not allowed to make application on-behalf-of calls.",
    ),
    7000215: Refusal(
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client "
        "secret value, not the client secret ID, for a secret added to app '{client_id}'.",
    ),
    7000216: Refusal(
        "invalid_client",
        "'client_assertion', 'client_secret' or 'request' is required for the '{grant_type}' grant "
        "type.",
    ),
    7000218: Refusal(
        "invalid_client",
        "The request body must contain the following parameter: 'client_assertion' or "
        "'client_secret'.",
    ),
    7000222: Refusal(
        "invalid_client",
        "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal "
        "to create new keys for your app: https://aka.ms/NewClientSecret, or consider using "
        "certificate credentials for added security: https://aka.ms/certCreds.",
    ),
    9000411: Refusal(
        "invalid_request",
        "The request is not properly formatted. The parameter '{parameter}' is duplicated.",
    ),
    9001023: Refusal(
        "invalid_request",
        "The grant type is not supported over the /common or /consumers endpoints. Please use the "
        "/organizations or tenant-specific endpoint.",
    ),
    9002313: Refusal("invalid_grant", "Invalid request. Request is malformed or invalid."),
    9002332: Refusal(
        "invalid_request",
        "Application '{client_id}'({client_id}) is configured for use by Azure Active Directory "
        "users only. Please do not use the /consumers endpoint to serve this request.",
    ),
}
